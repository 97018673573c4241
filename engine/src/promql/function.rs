//! The functions of PromQL, sorted by what they work on.

/// Functions of a range vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeFunction {
    /// `rate`
    Rate,
    /// `increase`
    Increase,
    /// `delta`
    Delta,
    /// `irate`
    Irate,
    /// `idelta`
    Idelta,
    /// `sum_over_time`
    Sum,
    /// `avg_over_time`
    Avg,
    /// `stddev_over_time`
    Stddev,
    /// `stdvar_over_time`
    Stdvar,
    /// `count_over_time`
    Count,
    /// `present_over_time`
    Present,
    /// `absent_over_time`
    Absent,
    /// `min_over_time`
    Min,
    /// `max_over_time`
    Max,
    /// `ts_of_min_over_time`
    TsOfMin,
    /// `ts_of_max_over_time`
    TsOfMax,
    /// `first_over_time`
    First,
    /// `last_over_time`
    Last,
    /// `ts_of_first_over_time`
    TsOfFirst,
    /// `ts_of_last_over_time`
    TsOfLast,
    /// `quantile_over_time`
    Quantile,
    /// `mad_over_time`
    Mad,
    /// `changes`
    Changes,
    /// `resets`
    Resets,
    /// `deriv`
    Deriv,
    /// `predict_linear`
    PredictLinear,
    /// `double_exponential_smoothing`
    DoubleExponentialSmoothing,
}

/// Functions that make one float of one float, sample by sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatFunction {
    /// `abs`
    Abs,
    /// `ceil`
    Ceil,
    /// `floor`
    Floor,
    /// `exp`
    Exp,
    /// `sqrt`
    Sqrt,
    /// `ln`
    Ln,
    /// `log2`
    Log2,
    /// `log10`
    Log10,
    /// `sin`
    Sin,
    /// `cos`
    Cos,
    /// `tan`
    Tan,
    /// `asin`
    Asin,
    /// `acos`
    Acos,
    /// `atan`
    Atan,
    /// `sinh`
    Sinh,
    /// `cosh`
    Cosh,
    /// `tanh`
    Tanh,
    /// `asinh`
    Asinh,
    /// `acosh`
    Acosh,
    /// `atanh`
    Atanh,
    /// `rad`
    Rad,
    /// `deg`
    Deg,
    /// `sgn`
    Sgn,
    /// `clamp(v, min, max)`
    Clamp,
    /// `clamp_min(v, min)`
    ClampMin,
    /// `clamp_max(v, max)`
    ClampMax,
    /// `round(v, to_nearest)`
    Round,
    /// `days_in_month`
    DaysInMonth,
    /// `day_of_month`
    DayOfMonth,
    /// `day_of_week`
    DayOfWeek,
    /// `day_of_year`
    DayOfYear,
    /// `hour`
    Hour,
    /// `minute`
    Minute,
    /// `month`
    Month,
    /// `year`
    Year,
}

/// Functions that make one float of one native histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HistogramFunction {
    /// `histogram_count`
    Count,
    /// `histogram_sum`
    Sum,
    /// `histogram_avg`
    Avg,
    /// `histogram_stddev`
    Stddev,
    /// `histogram_stdvar`
    Stdvar,
}

impl RangeFunction {
    /// The function called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// Whether the result is still the series that went in, so that it keeps its name.
    pub fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Whether the result is extrapolated to the bounds of the windows.
    pub fn is_extrapolated(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Delta)
    }

    const ALL: &[(&str, Self)] = &[
        ("rate", Self::Rate),
        ("increase", Self::Increase),
        ("delta", Self::Delta),
        ("irate", Self::Irate),
        ("idelta", Self::Idelta),
        ("sum_over_time", Self::Sum),
        ("avg_over_time", Self::Avg),
        ("stddev_over_time", Self::Stddev),
        ("stdvar_over_time", Self::Stdvar),
        ("count_over_time", Self::Count),
        ("present_over_time", Self::Present),
        ("absent_over_time", Self::Absent),
        ("min_over_time", Self::Min),
        ("max_over_time", Self::Max),
        ("ts_of_min_over_time", Self::TsOfMin),
        ("ts_of_max_over_time", Self::TsOfMax),
        ("first_over_time", Self::First),
        ("last_over_time", Self::Last),
        ("ts_of_first_over_time", Self::TsOfFirst),
        ("ts_of_last_over_time", Self::TsOfLast),
        ("quantile_over_time", Self::Quantile),
        ("mad_over_time", Self::Mad),
        ("changes", Self::Changes),
        ("resets", Self::Resets),
        ("deriv", Self::Deriv),
        ("predict_linear", Self::PredictLinear),
        ("double_exponential_smoothing", Self::DoubleExponentialSmoothing),
    ];
}

impl FloatFunction {
    /// The function called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    const ALL: &[(&str, Self)] = &[
        ("abs", Self::Abs),
        ("ceil", Self::Ceil),
        ("floor", Self::Floor),
        ("exp", Self::Exp),
        ("sqrt", Self::Sqrt),
        ("ln", Self::Ln),
        ("log2", Self::Log2),
        ("log10", Self::Log10),
        ("sin", Self::Sin),
        ("cos", Self::Cos),
        ("tan", Self::Tan),
        ("asin", Self::Asin),
        ("acos", Self::Acos),
        ("atan", Self::Atan),
        ("sinh", Self::Sinh),
        ("cosh", Self::Cosh),
        ("tanh", Self::Tanh),
        ("asinh", Self::Asinh),
        ("acosh", Self::Acosh),
        ("atanh", Self::Atanh),
        ("rad", Self::Rad),
        ("deg", Self::Deg),
        ("sgn", Self::Sgn),
        ("clamp", Self::Clamp),
        ("clamp_min", Self::ClampMin),
        ("clamp_max", Self::ClampMax),
        ("round", Self::Round),
        ("days_in_month", Self::DaysInMonth),
        ("day_of_month", Self::DayOfMonth),
        ("day_of_week", Self::DayOfWeek),
        ("day_of_year", Self::DayOfYear),
        ("hour", Self::Hour),
        ("minute", Self::Minute),
        ("month", Self::Month),
        ("year", Self::Year),
    ];
}

impl HistogramFunction {
    /// The function called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "histogram_count" => Self::Count,
            "histogram_sum" => Self::Sum,
            "histogram_avg" => Self::Avg,
            "histogram_stddev" => Self::Stddev,
            "histogram_stdvar" => Self::Stdvar,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "histogram_count",
            Self::Sum => "histogram_sum",
            Self::Avg => "histogram_avg",
            Self::Stddev => "histogram_stddev",
            Self::Stdvar => "histogram_stdvar",
        }
    }
}

//! The functions of PromQL with the types that they take and give.

use std::fmt;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number at each step.
    Scalar,
    /// One sample of each series at each step: an instant vector.
    Vector,
    /// Many samples of each series at each step: a range vector.
    Matrix,
    /// A string.
    String,
}

impl ValueType {
    /// Prometheus' word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// Prometheus' word for it in its documentation and in errors.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Scalar | Self::String => self.as_str(),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A function's name and signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments; the last one's holds for all that may follow.
    pub arg_types: &'static [ValueType],
    /// How many arguments may be added to or left from the last: 0 none, -1 any number.
    pub variadic: i32,
    /// The type of what it gives.
    pub return_type: ValueType,
    /// Whether it must be switched on.
    pub experimental: bool,
}

/// The function called `name`.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|known| known.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

const S: ValueType = ValueType::Scalar;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

const fn plain(name: &'static str, arg_types: &'static [ValueType], return_type: ValueType) -> Function {
    Function { name, arg_types, variadic: 0, return_type, experimental: false }
}

const fn variadic(name: &'static str, arg_types: &'static [ValueType], variadic: i32) -> Function {
    Function { name, arg_types, variadic, return_type: V, experimental: false }
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

/// All functions, ascending by name.
pub static FUNCTIONS: &[Function] = &[
    plain("abs", &[V], V),
    plain("absent", &[V], V),
    plain("absent_over_time", &[M], V),
    plain("acos", &[V], V),
    plain("acosh", &[V], V),
    plain("asin", &[V], V),
    plain("asinh", &[V], V),
    plain("atan", &[V], V),
    plain("atanh", &[V], V),
    plain("avg_over_time", &[M], V),
    plain("ceil", &[V], V),
    plain("changes", &[M], V),
    plain("clamp", &[V, S, S], V),
    plain("clamp_max", &[V, S], V),
    plain("clamp_min", &[V, S], V),
    plain("cos", &[V], V),
    plain("cosh", &[V], V),
    plain("count_over_time", &[M], V),
    variadic("day_of_month", &[V], 1),
    variadic("day_of_week", &[V], 1),
    variadic("day_of_year", &[V], 1),
    variadic("days_in_month", &[V], 1),
    plain("deg", &[V], V),
    plain("delta", &[M], V),
    plain("deriv", &[M], V),
    experimental(plain("double_exponential_smoothing", &[M, S, S], V)),
    experimental(plain("end", &[], S)),
    plain("exp", &[V], V),
    plain("first_over_time", &[M], V),
    plain("floor", &[V], V),
    plain("histogram_avg", &[V], V),
    plain("histogram_count", &[V], V),
    plain("histogram_fraction", &[S, S, V], V),
    plain("histogram_quantile", &[S, V], V),
    experimental(variadic("histogram_quantiles", &[V, T, S, S], 9)),
    plain("histogram_stddev", &[V], V),
    plain("histogram_stdvar", &[V], V),
    plain("histogram_sum", &[V], V),
    variadic("hour", &[V], 1),
    plain("idelta", &[M], V),
    plain("increase", &[M], V),
    experimental(variadic("info", &[V, V], 1)),
    plain("irate", &[M], V),
    variadic("label_join", &[V, T, T, T], -1),
    plain("label_replace", &[V, T, T, T, T], V),
    plain("last_over_time", &[M], V),
    plain("ln", &[V], V),
    plain("log10", &[V], V),
    plain("log2", &[V], V),
    experimental(plain("mad_over_time", &[M], V)),
    experimental(plain("max_of", &[S, S], S)),
    plain("max_over_time", &[M], V),
    experimental(plain("min_of", &[S, S], S)),
    plain("min_over_time", &[M], V),
    variadic("minute", &[V], 1),
    variadic("month", &[V], 1),
    plain("pi", &[], S),
    plain("predict_linear", &[M, S], V),
    plain("present_over_time", &[M], V),
    plain("quantile_over_time", &[S, M], V),
    plain("rad", &[V], V),
    experimental(plain("range", &[], S)),
    plain("rate", &[M], V),
    plain("resets", &[M], V),
    variadic("round", &[V, S], 1),
    plain("scalar", &[V], S),
    plain("sgn", &[V], V),
    plain("sin", &[V], V),
    plain("sinh", &[V], V),
    plain("sort", &[V], V),
    experimental(variadic("sort_by_label", &[V, T], -1)),
    experimental(variadic("sort_by_label_desc", &[V, T], -1)),
    plain("sort_desc", &[V], V),
    plain("sqrt", &[V], V),
    experimental(plain("start", &[], S)),
    experimental(plain("start_timestamp", &[V], V)),
    plain("stddev_over_time", &[M], V),
    plain("stdvar_over_time", &[M], V),
    experimental(plain("step", &[], S)),
    plain("sum_over_time", &[M], V),
    plain("tan", &[V], V),
    plain("tanh", &[V], V),
    plain("time", &[], S),
    plain("timestamp", &[V], V),
    experimental(plain("ts_of_first_over_time", &[M], V)),
    experimental(plain("ts_of_last_over_time", &[M], V)),
    experimental(plain("ts_of_max_over_time", &[M], V)),
    experimental(plain("ts_of_min_over_time", &[M], V)),
    plain("vector", &[S], V),
    variadic("year", &[V], 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found_by_its_name() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        for known in FUNCTIONS {
            assert_eq!(function(known.name), Some(known));
        }
        assert_eq!(function("nope"), None);
    }
}

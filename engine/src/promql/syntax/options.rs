//! Which experimental syntax is understood.

/// Prometheus' feature flags that concern the language. All off is what Prometheus does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// `promql-experimental-functions`: functions marked so, `limitk` and `limit_ratio`.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
}

impl Options {
    /// Everything on.
    pub const ALL: Self = Self { experimental_functions: true, extended_range_selectors: true, fill_modifiers: true };
}

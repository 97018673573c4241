//! Expressions in the making, with their type and the first thing wrong with their types.
//!
//! Prometheus checks types only when the syntax is right, from the leaves up, and reports the first
//! error of that order. Each expression here carries the first error within it, so that nothing has
//! to walk the tree, which may be as deep as the query is long.

use crate::model::labels::METRIC_NAME;
use crate::model::text::Quoted;

use super::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, NumberLiteral, TextRange, Unary, VectorSelector,
};
use super::error::ParseError;
use super::functions::ValueType;

/// An expression, its type, its height, and the first error of its types.
pub(super) struct Typed {
    pub expr: Expr,
    pub kind: ValueType,
    pub height: u32,
    pub error: Option<Box<ParseError>>,
}

/// Takes the tree apart from the top, as the recursion of a plain drop would end on a deep one.
impl Drop for Typed {
    fn drop(&mut self) {
        if self.height < 100 {
            return;
        }
        let mut left = vec![std::mem::replace(&mut self.expr, placeholder())];
        while let Some(expr) = left.pop() {
            match expr {
                Expr::Aggregate(node) => {
                    left.push(node.expr);
                    left.extend(node.param);
                }
                Expr::Binary(node) => left.extend([node.lhs, node.rhs]),
                Expr::Call(node) => left.extend(node.args),
                Expr::Subquery(node) => left.push(node.expr),
                Expr::Paren(node) => left.push(node.expr),
                Expr::Unary(node) => left.push(node.expr),
                Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) | Expr::Vector(_) => {}
            }
        }
    }
}

fn placeholder() -> Expr {
    Expr::Number(NumberLiteral { value: 0.0, is_duration: false, range: TextRange::default() })
}

impl Typed {
    /// The tree itself.
    pub fn into_expr(mut self) -> Expr {
        self.height = 0;
        std::mem::replace(&mut self.expr, placeholder())
    }

    /// An expression without parts.
    pub fn leaf(expr: Expr) -> Self {
        let kind = expr.value_type();
        Self { expr, kind, height: 1, error: None }
    }

    /// What `wrap` makes of this expression, of type `kind`.
    pub fn wrapped(mut self, kind: ValueType, wrap: impl FnOnce(Expr) -> Expr) -> Self {
        let error = self.error.take();
        let height = self.height + 1;
        Self { expr: wrap(self.into_expr()), kind, height, error }
    }
}

/// Checks the types of one query.
#[derive(Clone, Copy)]
pub(super) struct Checker<'a> {
    pub query: &'a str,
}

type FirstError = Option<Box<ParseError>>;

impl Checker<'_> {
    fn note(self, first: &mut FirstError, range: TextRange, message: impl FnOnce() -> String) {
        if first.is_none() {
            *first = Some(Box::new(ParseError::new(self.query, range, message())));
        }
    }

    pub fn vector(self, selector: VectorSelector) -> Typed {
        let mut error = None;
        if selector.name.is_empty() {
            if selector.matchers.iter().all(|matcher| matcher.matches_empty()) {
                self.note(&mut error, selector.range, || {
                    "vector selector must contain at least one non-empty matcher".to_owned()
                });
            }
        } else {
            let inner = selector.matchers.split_last().map_or(&[][..], |(_, inner)| inner);
            if let Some(other) = inner.iter().find(|matcher| matcher.name() == METRIC_NAME) {
                self.note(&mut error, selector.range, || {
                    let (name, other) = (Quoted(selector.name.as_bytes()), Quoted(other.value()));
                    format!("metric name must not be set twice: {name} or {other}")
                });
            }
        }
        Typed { expr: Expr::Vector(Box::new(selector)), kind: ValueType::Vector, height: 1, error }
    }

    pub fn unary(self, start: usize, op: super::ast::UnaryOp, operand: Typed) -> Typed {
        let kind = operand.kind;
        let mut typed = operand.wrapped(kind, |expr| Expr::Unary(Box::new(Unary { op, expr, start })));
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let range = typed.expr.range();
            self.note(&mut typed.error, range, || {
                let got = kind.documented();
                format!("unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\"")
            });
        }
        typed
    }

    /// A subquery of `expr`, made by `wrap`.
    pub fn subquery(self, expr: Typed, wrap: impl FnOnce(Expr) -> Expr) -> Typed {
        let inner = expr.kind;
        let mut typed = expr.wrapped(ValueType::Matrix, wrap);
        if inner != ValueType::Vector {
            let range = typed.expr.range();
            self.note(&mut typed.error, range, || {
                format!("subquery is only allowed on instant vector, got {inner} instead")
            });
        }
        typed
    }

    fn expect(self, typed: &mut Typed, want: ValueType, place: &str, first: &mut FirstError) {
        if first.is_none() {
            *first = typed.error.take();
        }
        let (range, got) = (typed.expr.range(), typed.kind.documented());
        if typed.kind != want {
            self.note(first, range, || format!("expected type {} in {place}, got {got}", want.documented()));
        }
    }

    /// An aggregation; `node` comes with neither expression nor parameter.
    pub fn aggregate(self, node: Grouped, param: Option<Typed>, mut expr: Typed) -> Typed {
        let mut error = None;
        self.expect(&mut expr, ValueType::Vector, "aggregation expression", &mut error);
        let mut height = expr.height;
        let param = param.map(|mut param| {
            let want = if node.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
            self.expect(&mut param, want, "aggregation parameter", &mut error);
            height = height.max(param.height);
            param.into_expr()
        });
        let Grouped { op, grouping, without, range } = node;
        let node = Aggregate { op, expr: expr.into_expr(), param, grouping, without, range };
        Typed { expr: Expr::Aggregate(Box::new(node)), kind: ValueType::Vector, height: height + 1, error }
    }

    /// A call of `call.function`, which comes without arguments.
    pub fn call(self, mut call: Call, mut args: Vec<Typed>) -> Typed {
        let mut error = None;
        self.check_arity(&call, args.len(), &mut error);
        if call.function.name == "info"
            && let Some(labels) = args.get_mut(1)
        {
            self.check_info_labels(call.range, labels, &mut error);
        }
        let mut height = 0;
        let types = call.function.arg_types;
        for (at, mut arg) in args.into_iter().enumerate() {
            height = height.max(arg.height);
            let declared = if call.function.variadic == 0 { types.get(at) } else { types.get(at).or(types.last()) };
            if let Some(want) = declared {
                let place = format!("call to function {}", Quoted(call.function.name.as_bytes()));
                self.expect(&mut arg, *want, &place, &mut error);
            }
            call.args.push(arg.into_expr());
        }
        let kind = call.function.return_type;
        Typed { expr: Expr::Call(call), kind, height: height + 1, error }
    }

    fn check_arity(self, call: &Call, got: usize, error: &mut FirstError) {
        let function = call.function;
        let name = Quoted(function.name.as_bytes());
        let declared = function.arg_types.len();
        let least = if function.variadic == 0 { declared } else { declared.saturating_sub(1) };
        let most = usize::try_from(function.variadic).ok().map(|more| least + more);
        let wrong = if function.variadic == 0 && got != declared {
            Some(("", declared))
        } else if got < least {
            Some(("at least ", least))
        } else {
            most.filter(|most| *most < got).map(|most| ("at most ", most))
        };
        if let Some((bound, count)) = wrong {
            self.note(error, call.range, || {
                format!("expected {bound}{count} argument(s) in call to {name}, got {got}")
            });
        }
    }

    /// The second argument of `info` is a selector without a metric name, which may match anything.
    fn check_info_labels(self, call: TextRange, labels: &mut Typed, error: &mut FirstError) {
        if labels.kind != ValueType::Vector {
            let got = labels.kind.documented();
            self.note(error, call, || format!("expected type instant vector in call to function \"info\", got {got}"));
        }
        let range = labels.expr.range();
        match &labels.expr {
            Expr::Vector(selector) if selector.name.is_empty() => labels.error = None,
            Expr::Vector(_) => {
                self.note(error, range, || "expected label selectors only, got vector selector instead".to_owned());
            }
            _ => self.note(error, range, || "expected label selectors only".to_owned()),
        }
    }

    pub fn binary(self, mut node: Modified, mut lhs: Typed, mut rhs: Typed) -> Typed {
        let mut error = lhs.error.take();
        if error.is_none() {
            error = rhs.error.take();
        }
        self.check_operator(&node, &lhs, &rhs, &mut error);
        if node.op.is_set() && node.matching.cardinality == Cardinality::OneToOne {
            node.matching.cardinality = Cardinality::ManyToMany;
        }
        let (left, right) = (lhs.expr.range(), rhs.expr.range());
        for (kind, range) in [(lhs.kind, left), (rhs.kind, right)] {
            if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
                self.note(&mut error, range, || {
                    "binary expression must contain only scalar and instant vector types".to_owned()
                });
            }
        }
        let kinds = (lhs.kind, rhs.kind);
        let range = TextRange { start: left.start, end: right.end };
        self.check_matching(&node, kinds, range, &mut error);
        let are_vectors = kinds == (ValueType::Vector, ValueType::Vector);
        let are_scalars = kinds == (ValueType::Scalar, ValueType::Scalar);
        let height = lhs.height.max(rhs.height) + 1;
        let Modified { op, return_bool, matching } = node;
        let matching = are_vectors.then_some(matching);
        let node = Binary { op, lhs: lhs.into_expr(), rhs: rhs.into_expr(), matching, return_bool };
        let kind = if are_scalars { ValueType::Scalar } else { ValueType::Vector };
        Typed { expr: Expr::Binary(Box::new(node)), kind, height, error }
    }

    fn check_operator(self, node: &Modified, lhs: &Typed, rhs: &Typed, error: &mut FirstError) {
        let bytes = self.query.as_bytes();
        let end = lhs.expr.end();
        let is_space = |at: &usize| matches!(bytes.get(*at), Some(b' ' | b'\t' | b'\n' | b'\r'));
        let start = (end..).find(|at| !is_space(at)).unwrap_or(end);
        let range = TextRange { start, end: rhs.expr.start() };
        if node.return_bool && !node.op.is_comparison() {
            self.note(error, range, || "bool modifier can only be used on comparison operators".to_owned());
        }
        let are_scalars = lhs.kind == ValueType::Scalar && rhs.kind == ValueType::Scalar;
        if node.op.is_comparison() && !node.return_bool && are_scalars {
            self.note(error, range, || "comparisons between scalars must use BOOL modifier".to_owned());
        }
        let matching = &node.matching;
        if let Some(label) = matching.labels.iter().find(|label| matching.on && matching.include.contains(label)) {
            let label = Quoted(label.as_bytes());
            self.note(error, range, || format!("label {label} must not occur in ON and GROUP clause at once"));
        }
    }

    fn check_matching(self, node: &Modified, kinds: (ValueType, ValueType), at: TextRange, error: &mut FirstError) {
        let matching = &node.matching;
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        let op = node.op.as_str();
        if kinds != (ValueType::Vector, ValueType::Vector) {
            if !matching.labels.is_empty() {
                self.note(error, at, || "vector matching only allowed between instant vectors".to_owned());
            }
            if fills {
                self.note(error, at, || "filling in missing series only allowed between instant vectors".to_owned());
            }
        } else if node.op.is_set() {
            if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
                self.note(error, at, || format!("no grouping allowed for \"{op}\" operation"));
            }
            if fills {
                self.note(error, at, || "filling in missing series not allowed for set operators".to_owned());
            }
        }
        if (kinds.0 == ValueType::Scalar || kinds.1 == ValueType::Scalar) && node.op.is_set() {
            self.note(error, at, || format!("set operator \"{op}\" not allowed in binary scalar expression"));
        }
    }
}

/// An aggregation before its arguments are known.
pub(super) struct Grouped {
    pub op: AggregateOp,
    pub grouping: Vec<String>,
    pub without: bool,
    pub range: TextRange,
}

/// A binary operator with what stands between it and its right side.
pub(super) struct Modified {
    pub op: super::ast::BinaryOp,
    pub return_bool: bool,
    pub matching: super::ast::VectorMatching,
}

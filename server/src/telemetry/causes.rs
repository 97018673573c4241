//! Errors of libraries, whose own words often leave out what went wrong.

use std::error::Error;

/// What an error says, and what its causes say besides.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn each_cause_is_told_once() {
        let refused = Layer("connect: refused", Some(Box::new(Layer("refused", None))));
        let error = Layer("error sending request", Some(Box::new(Layer("client error", Some(Box::new(refused))))));
        assert_eq!(with_causes(&error), "error sending request: client error: connect: refused");
    }
}

//! Lets in who proves nothing; only where it is written down.

use session_core::Time;

use crate::{Attempt, Identity, Provider, Verdict, Work};

/// Lets in who shows no credentials.
#[derive(Clone, Debug)]
pub struct AnonymousProvider {
    name: Box<str>,
    user: Option<Box<str>>,
}

impl AnonymousProvider {
    /// A provider of this name; `user` is what everybody is called whom it lets in. What a client calls itself
    /// proves nothing, so it is no name.
    pub fn new(name: &str, user: Option<&str>) -> Self {
        Self { name: name.into(), user: user.map(Into::into) }
    }
}

impl Provider for AnonymousProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn work(&self) -> Work {
        Work::None
    }

    fn begin(&self, _now: Time, attempt: &Attempt) -> Verdict {
        // Who shows credentials wants them looked at: that nobody knew them must not let it in.
        if attempt.user_name.is_some() || attempt.password.is_some() || attempt.method.is_some() {
            return Verdict::Skip { why: "it shows credentials".into() };
        }
        Verdict::Accept(Box::new(Identity { user: self.user.clone(), ..Identity::default() }))
    }
}

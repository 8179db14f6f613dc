//! When rows go, under any policy.

use std::sync::Arc;

use msrnn_core::policy::{Cut, Foresight, Layer, Plan, Policy};

/// Cuts every n tokens: once k rows are held, n more come before all but k go.
///
/// With n = 1 it is the policy itself, where that cuts after every token.
///
/// ```
/// use msrnn_core::policy::{Cut, Layer, Policy};
/// use msrnn_policies::{Every, Tova};
///
/// let every = Every { tokens: 128, policy: std::sync::Arc::new(Tova::layer_wise()) };
/// assert_eq!(every.name(), "every(128, tova)");
/// assert_eq!(every.plan(&Layer::only(512)).cut, Cut::Every(128));
/// ```
#[derive(Clone, Debug)]
pub struct Every {
    /// n, at least 1.
    pub tokens: usize,
    /// Who goes.
    pub policy: Arc<dyn Policy>,
}

impl Policy for Every {
    fn name(&self) -> String {
        format!("every({}, {})", self.tokens, self.policy.name())
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).cut(Cut::Every(self.tokens))
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}

/// Cuts once, after the prompt; then the state grows.
///
/// ```
/// use msrnn_core::policy::{Cut, Layer, Policy};
/// use msrnn_policies::{AfterPrompt, Tova};
///
/// let once = AfterPrompt { policy: std::sync::Arc::new(Tova::layer_wise()) };
/// assert_eq!(once.name(), "after-prompt(tova)");
/// assert_eq!(once.plan(&Layer::only(512)).cut, Cut::AfterPrompt);
/// ```
#[derive(Clone, Debug)]
pub struct AfterPrompt {
    /// Who goes.
    pub policy: Arc<dyn Policy>,
}

impl Policy for AfterPrompt {
    fn name(&self) -> String {
        format!("after-prompt({})", self.policy.name())
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).cut(Cut::AfterPrompt)
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy })))
    }
}

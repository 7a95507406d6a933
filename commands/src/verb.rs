//! What a verb is, and how the list of them becomes [`Command`](crate::Command).

use events::{NodeId, OperatorRole};
use projections::Cluster;

use crate::{Ctx, Decision, Rejection};

/// One wish: a type in the file of its noun.
pub(crate) trait Verb {
    /// Its name in the log, such as `service.create`.
    fn name(&self) -> &'static str;

    /// Who may ask for it.
    fn asker(&self) -> Asker;

    /// Whether it makes the cluster want, hold or run more: refused while the manager's disk is full.
    fn adds(&self, state: &Cluster) -> bool;

    /// Judges it against a state.
    ///
    /// # Errors
    /// A [`Rejection`] if it cannot or must not be done; then nothing happened.
    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection>;
}

impl<V: Verb> Verb for Box<V> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn asker(&self) -> Asker {
        (**self).asker()
    }

    fn adds(&self, state: &Cluster) -> bool {
        (**self).adds(state)
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        (**self).decide(state, ctx)
    }
}

/// Who may ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// People and tools: an operator at the control socket, whoever holds a manager's certificate, and operators with a
    /// certificate of their own that has this role or a higher one.
    Operator(OperatorRole),
    /// The node that it is about.
    Node(NodeId),
    /// The node that it is about, or this manager for it.
    NodeOrThisManager(NodeId),
    /// Who has no certificate yet.
    Joiner,
    /// This manager alone.
    ThisManager,
}

/// Declares the commands: one row a verb.
macro_rules! commands {
    (
        $(#[$about:meta])*
        pub enum $command:ident { $($(#[$about_verb:meta])* $verb:ident($type:ty),)+ }
    ) => {
        $(#[$about])*
        pub enum $command {
            $($(#[$about_verb])* $verb($type),)+
        }

        impl $command {
            /// What each verb knows of itself.
            pub(crate) fn verb(&self) -> &dyn $crate::verb::Verb {
                match self {
                    $(Self::$verb(verb) => verb,)+
                }
            }
        }

        $(
            impl From<$type> for $command {
                fn from(verb: $type) -> Self {
                    Self::$verb(verb)
                }
            }
        )+
    };
}

pub(crate) use commands;

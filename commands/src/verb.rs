//! The trait of verbs, and how the list of them becomes [`Command`](crate::Command).

use events::{NodeId, OperatorRole};
use projections::Cluster;

use crate::{Ctx, Decision, Rejection};

/// One kind of command: a type in the file of its noun.
pub(crate) trait Verb {
    /// Its name in the log, such as `service.create`.
    fn name(&self) -> &'static str;

    /// Who may issue it.
    fn allowed_actor(&self) -> AllowedActor;

    /// Whether it adds desired state, data or work: refused while the manager's disk is full.
    fn adds(&self, state: &Cluster) -> bool;

    /// Judges it against a state.
    ///
    /// # Errors
    /// A [`Rejection`] if it is impossible or invalid; then nothing has changed.
    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection>;
}

impl<V: Verb> Verb for Box<V> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn allowed_actor(&self) -> AllowedActor {
        (**self).allowed_actor()
    }

    fn adds(&self, state: &Cluster) -> bool {
        (**self).adds(state)
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        (**self).decide(state, ctx)
    }
}

/// Who may issue a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedActor {
    /// People and tools: an operator at the control socket, a holder of a manager's certificate, and operators with their own
    /// certificate that has this role or a higher one.
    Operator(OperatorRole),
    /// The node concerned.
    Node(NodeId),
    /// The node concerned, or this manager on its behalf.
    NodeOrThisManager(NodeId),
    /// A client without a certificate.
    Joiner,
    /// This manager alone.
    ThisManager,
}

/// Declares the commands: one row per verb.
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
            /// The trait implementation of each verb.
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

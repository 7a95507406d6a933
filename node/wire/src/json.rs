//! Short names of this schema's own enums in JSON: `ready` for `NODE_STATE_READY`.

use events::Named;

use crate::v1;

macro_rules! named {
    ($($name:ident $prefix:literal;)*) => { $(
        impl Named for v1::$name {
            fn name(self) -> String { self.as_str_name().trim_start_matches($prefix).to_ascii_lowercase() }
            fn from_name(name: &str) -> Option<Self> {
                Self::from_str_name(&format!("{}{}", $prefix, name.to_ascii_uppercase()))
            }
        }
    )* };
}

named! {
    LogStream "LOG_STREAM_";
    MemberState "MEMBER_STATE_";
    NodeState "NODE_STATE_";
    ObjectNoun "OBJECT_NOUN_";
    Reachability "REACHABILITY_";
    RefusalKind "REFUSAL_KIND_";
    ServiceMode "SERVICE_MODE_";
    SinkActivity "SINK_ACTIVITY_";
    TaskAction "TASK_ACTION_";
    UpdateState "UPDATE_STATE_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_read_back() {
        assert_eq!(v1::UpdateState::RollbackPaused.name(), "rollback_paused");
        assert_eq!(v1::NodeState::from_name("ready"), Some(v1::NodeState::Ready));
        assert_eq!(v1::RefusalKind::from_name("REFUSAL_KIND_EXISTS"), None);
    }
}

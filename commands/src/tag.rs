//! Commands about tags: names for points of history.

use events::{HistoryTagged, HistoryUntagged, Kind, OperatorRole, Timestamp};
use projections::Cluster;

use crate::text::quote;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, validate};

/// Maximum number of tags: people name points by hand, and each takes a few bytes of the state.
const TAGS_MAX: usize = 1_000;

/// Names a point of history.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TagHistory {
    /// The name.
    pub name: String,
    /// Index of the frame.
    pub index: u64,
    /// The frame's time.
    pub time: Timestamp,
}

/// Removes the name of a point of history.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UntagHistory {
    /// The name.
    pub name: String,
}

impl Verb for TagHistory {
    fn name(&self) -> &'static str {
        "history.tag"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { name, index, time } = self;
        let subject = format!("tag {}", quote(name));
        validate::tag(name).map_err(|fault| fault.about(&subject))?;
        let tags = &state.settings.tags;
        match tags.get(name) {
            Some(tag) if tag.index == *index => return Ok(Decision::nothing(name)),
            Some(tag) => {
                let sentence = format!("the tag {name} is at index {} already", tag.index);
                let hint = format!("choose another name, or remove it first with `swarmctl history untag {name}`");
                return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
            }
            None => {}
        }
        if tags.len() >= TAGS_MAX {
            let sentence = format!("there are {TAGS_MAX} tags, which is the maximum");
            let hint = "remove those that are not needed with `swarmctl history untag`";
            return Err(Rejection::new(RejectionKind::Exhausted, subject, sentence, hint));
        }
        let tagged = HistoryTagged { name: name.clone(), index: *index, time: *time };
        Ok(Decision::one(name, Kind::HistoryTagged(tagged)))
    }
}

impl Verb for UntagHistory {
    fn name(&self) -> &'static str {
        "history.untag"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let name = &self.name;
        if !state.settings.tags.contains_key(name) {
            return Err(unknown(name));
        }
        Ok(Decision::one(name, Kind::HistoryUntagged(HistoryUntagged { name: name.clone() })))
    }
}

/// The rejection of an unknown tag.
pub fn unknown(name: &str) -> Rejection {
    let sentence = format!("there is no tag {}", quote(name));
    let hint = "`swarmctl history tags` lists the tags; a point is an index, a time such as 03:12 or 2h ago, or a tag";
    Rejection::new(RejectionKind::NotFound, format!("tag {}", quote(name)), sentence, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::{Fixture, operator};

    fn tag(name: &str, index: u64) -> Command {
        let time = Timestamp::from_unix_ns(7);
        Command::TagHistory(TagHistory { name: name.to_owned(), index, time })
    }

    #[test]
    fn a_name_means_one_point_until_it_is_taken_away() {
        let mut fixture = Fixture::initialised();
        let untag = Command::UntagHistory(UntagHistory { name: "before".to_owned() });
        assert_eq!(fixture.refuse(&operator(), untag.clone()).kind, RejectionKind::NotFound);
        assert_eq!(fixture.accept(&operator(), tag("before", 1)).events.len(), 1);
        assert_eq!(fixture.accept(&operator(), tag("before", 1)).events, []);
        assert_eq!(fixture.refuse(&operator(), tag("before", 2)).kind, RejectionKind::Exists);
        assert_eq!(fixture.accept(&operator(), untag).events.len(), 1);
        fixture.accept(&operator(), tag("before", 2));
        assert_eq!(fixture.state.settings.tags["before"].index, 2);
    }

    #[test]
    fn what_reads_as_another_point_is_no_name() {
        for name in
            ["", "7", "2d", "now", "today", "yesterday", "Today", "a b", "-x", "x-", "2026-01-01", &"x".repeat(64)]
        {
            assert_eq!(Fixture::initialised().refuse(&operator(), tag(name, 1)).kind, RejectionKind::Invalid, "{name}");
        }
        for name in ["before-migration", "v1.2", "release_7"] {
            Fixture::initialised().accept(&operator(), tag(name, 1));
        }
    }

    #[test]
    fn tags_are_bounded() {
        let mut fixture = Fixture::initialised();
        let made = |number| Kind::HistoryTagged(HistoryTagged { name: format!("t{number}"), ..Default::default() });
        fixture.given((0..TAGS_MAX).map(made));
        assert_eq!(fixture.refuse(&operator(), tag("one-more", 1)).kind, RejectionKind::Exhausted);
    }
}

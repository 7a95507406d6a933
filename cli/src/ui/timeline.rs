//! The selected point of history.

use wire::v1::PointView;

/// The index of the first frame.
const FIRST: u64 = 1;
/// A long step covers this fraction of history.
const PARTS: u64 = 20;
/// Minimum number of indexes in a long step.
const LONG_MIN: u64 = 10;

/// The present, or a point of the past.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeline {
    /// The end of history, as far as known.
    head: PointView,
    /// The selected index; `None` for the present.
    at: Option<u64>,
}

/// The size of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To the previous or next frame.
    Frame,
    /// Over a fraction of history.
    Part,
}

impl Timeline {
    /// The timeline with a point selected, or the present.
    pub fn at(at: Option<PointView>) -> Self {
        Self { head: at.unwrap_or_default(), at: at.map(|point| point.index) }
    }

    /// The selected index; `None` for the present.
    pub fn index(&self) -> Option<u64> {
        self.at
    }

    /// The end of history.
    pub fn head(&self) -> PointView {
        self.head
    }

    /// Updates the end of history.
    pub fn learn(&mut self, head: PointView) {
        if head.index >= self.head.index {
            self.head = head;
        }
    }

    /// Goes to a point.
    pub fn go_to(&mut self, point: PointView) {
        self.learn(point);
        self.at = Some(point.index);
    }

    /// Goes to the present.
    pub fn go_to_present(&mut self) {
        self.at = None;
    }

    /// Goes back. Until the end of history is known, nothing happens.
    pub fn back(&mut self, step: Step) {
        if self.head.index > 0 {
            let from = self.at.unwrap_or(self.head.index);
            self.at = Some(from.saturating_sub(self.length(step)).max(FIRST));
        }
    }

    /// Goes forward; at the end of history, to the present.
    pub fn forward(&mut self, step: Step) {
        let next = self.at.map(|at| at.saturating_add(self.length(step)));
        self.at = next.filter(|next| *next < self.head.index);
    }

    fn length(&self, step: Step) -> u64 {
        match step {
            Step::Frame => 1,
            Step::Part => LONG_MIN.max(self.head.index / PARTS),
        }
    }

    /// A bar of this width, with a mark at the selected point.
    pub fn bar(&self, width: usize) -> String {
        let last = width.saturating_sub(1);
        let at = self.at.map_or(last, |at| {
            // A float is precise enough for a character position.
            ((at as f64 / self.head.index.max(1) as f64) * last as f64) as usize
        });
        (0..width).map(|column| if column == at.min(last) { '●' } else { '─' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(head: u64) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.learn(PointView { index: head, ..PointView::default() });
        timeline
    }

    #[test]
    fn steps_end_at_the_first_frame_and_in_the_present() {
        let mut timeline = timeline(400);
        let mut walk = |steps: &[(bool, Step)]| {
            for (back, step) in steps {
                if *back { timeline.back(*step) } else { timeline.forward(*step) }
            }
            timeline.index()
        };
        assert_eq!(walk(&[(true, Step::Frame)]), Some(399));
        assert_eq!(walk(&[(true, Step::Part)]), Some(379));
        assert_eq!(walk(&[(false, Step::Frame)]), Some(380));
        assert_eq!(walk(&[(false, Step::Part)]), None);
        assert_eq!(walk(&[(false, Step::Frame)]), None);
        assert_eq!(walk(&[(true, Step::Part); 30]), Some(1));
    }

    #[test]
    fn nothing_is_before_what_is_known() {
        let mut timeline = Timeline::default();
        timeline.back(Step::Part);
        assert_eq!(timeline.index(), None);
        timeline.learn(PointView { index: 5, ..PointView::default() });
        timeline.learn(PointView { index: 4, ..PointView::default() });
        assert_eq!(timeline.head().index, 5, "history does not shrink");
    }

    #[test]
    fn the_mark_is_where_one_looks() {
        let mut timeline = timeline(100);
        assert_eq!(timeline.bar(5), "────●");
        timeline.go_to(PointView { index: 50, ..PointView::default() });
        assert_eq!(timeline.bar(5), "──●──");
        timeline.back(Step::Part);
        assert_eq!(timeline.bar(5), "─●───");
        assert_eq!(timeline.bar(0), "");
    }
}

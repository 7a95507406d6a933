//! Which point of history is looked at.

use wire::v1::PointView;

/// The index of the first frame that there can be.
const FIRST: u64 = 1;
/// Parts of history that a long step goes over.
const PARTS: u64 = 20;
/// Indexes that a long step goes over at least.
const LONG_MIN: u64 = 10;

/// The present, or a point of the past.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeline {
    /// Where history ends, as far as is known.
    head: PointView,
    /// The index that is looked at; absent: the present.
    at: Option<u64>,
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To the frame before or after.
    Frame,
    /// Over a part of history.
    Part,
}

impl Timeline {
    /// A look at a point; at the present if there is none.
    pub fn at(at: Option<PointView>) -> Self {
        Self { head: at.unwrap_or_default(), at: at.map(|point| point.index) }
    }

    /// The index that is looked at; absent: the present.
    pub fn index(&self) -> Option<u64> {
        self.at
    }

    /// Where history ends.
    pub fn head(&self) -> PointView {
        self.head
    }

    /// Learns where history ends.
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

    /// Goes back. Before anything is known of history, there is nowhere to go.
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

    /// A bar of so many characters, with a mark where one looks.
    pub fn bar(&self, width: usize) -> String {
        let last = width.saturating_sub(1);
        let at = self.at.map_or(last, |at| {
            // A float is exact enough for a character.
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

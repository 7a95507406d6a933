//! The cost of a task that keeps failing: few events per attempt, and few attempts.

use crate::script;

/// Maximum number of events of one restart: the end, the replacement, its placement, its start, that it is slow to start, that it
/// runs.
const EVENTS_MAX: usize = 6;
/// Maximum number of events per day that one failing task adds to history.
const EVENTS_PER_DAY_MAX: usize = 2_000;
/// A restart has exactly one event of this kind.
const CREATED: &str = " task_created ";

/// Events about a service that fails like this, oldest first, one per line.
fn history(image: &str, flags: &str, length: &str) -> Vec<String> {
    let script = format!(
        "! nodes 1\n$ swarmctl service create --name web --image {image} {flags}\n! advance {length}\n\
         $ swarmctl events --object web\n"
    );
    let transcript = script::run(&script).expect("the script runs");
    let (_, events) = transcript.split_once("WHAT\n").expect("a table of events");
    events.lines().map(str::to_owned).collect()
}

#[test]
fn a_restart_writes_few_events_however_a_task_fails() {
    for image in
        ["sim/exit-1", "sim/exit-1-after-1s", "sim/exit-1-after-15s", "sim/unhealthy", "sim/missing", "sim/oom"]
    {
        for flags in ["", "--restart-delay 0s", "--restart-delay 3s"] {
            let events = history(image, flags, "3m");
            let created: Vec<usize> = (0..events.len()).filter(|line| events[*line].contains(CREATED)).collect();
            assert!(created.len() > 4, "{image} {flags} restarts: {events:#?}");
            for pair in created.windows(2) {
                let attempt = &events[pair[0]..pair[1]];
                assert!(attempt.len() <= EVENTS_MAX, "{image} {flags}: {attempt:#?}");
            }
        }
    }
}

#[test]
fn a_crash_loop_adds_few_events_a_day() {
    let events = history("sim/exit-1-after-1s", "", "24h");
    assert!(events.len() < EVENTS_PER_DAY_MAX, "{} events", events.len());
    let attempts = events.iter().filter(|line| line.contains(CREATED)).count();
    assert!(attempts > 24 * 60 / 6, "it is tried every five minutes, and was {attempts} times");
}

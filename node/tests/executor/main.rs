//! Conformance of the executors: one suite, run on real containers and on real processes, and some cases that only a
//! container engine has.
//!
//! The tests on containers need a Docker Engine on its usual socket, with the image `swarmlog/demo:v1`. They are ignored
//! unless the runner is asked for them, as `scripts/test` does where an engine is.

mod bench;
mod cases;
mod copy;
mod docker;
mod exec;
mod process;
mod registry;

/// Runs each case of the suite on each executor.
macro_rules! conformance {
    ($($module:ident: $($case:ident)*;)*) => {
        mod on_docker { $($(
            #[tokio::test]
            #[ignore = "needs a Docker Engine"]
            async fn $case() {
                let bench = crate::bench::Bench::docker().await;
                bench.run(crate::$module::$case(&bench)).await;
            }
        )*)* }
        mod on_processes { $($(
            #[tokio::test]
            async fn $case() {
                let bench = crate::bench::Bench::process();
                bench.run(crate::$module::$case(&bench)).await;
            }
        )*)* }
    };
}

conformance! {
    cases:
    a_node_is_described
    a_task_lives_and_is_removed
    a_preparation_that_was_given_up_leaves_nothing
    exit_codes_are_reported
    steps_may_be_repeated
    a_polite_stop_is_heeded
    a_deaf_task_is_killed_after_its_grace_period
    a_missing_command_is_fatal_in_words
    a_healthy_task_starts
    an_unhealthy_task_does_not_start
    a_task_that_falls_ill_ends
    a_task_that_ends_before_it_is_healthy_does_not_start
    a_shutdown_gives_up_a_start
    the_environment_arrives
    configs_are_put_in_place
    secrets_are_given_in_memory_until_the_task_has_ended
    memory_is_limited
    another_executor_takes_over
    an_end_is_learnt_by_another_executor
    the_inventory_is_of_one_cluster_and_node
    what_a_task_printed_is_read_also_after_its_end
    the_last_lines_are_told
    who_follows_reads_until_the_task_ends
    a_busy_task_uses_the_processor;

    exec:
    a_command_runs_in_the_place_of_the_task
    a_command_has_a_terminal
    a_command_gets_signals
    a_command_that_is_not_there_is_said
    a_command_may_run_by_itself
    a_command_ends_when_its_operator_is_gone
    a_command_ends_with_its_task
    who_attaches_sees_what_a_task_prints_and_how_it_ends;

    copy:
    files_go_into_a_task_and_come_out;
}

/// Not a test: the process executor starts this binary again, with this test's name, as its supervisor.
#[test]
fn supervisor() {
    if let Some(dir) = std::env::var_os(bench::SUPERVISED_DIR) {
        // Out of the test harness at once: a supervisor prints nothing. Zero and not zero is all there is to say.
        let done = node::agent::process::supervise(dir.as_ref());
        std::process::exit(i32::from(done != std::process::ExitCode::SUCCESS));
    }
}

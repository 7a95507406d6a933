//! End-to-end tests: real `swarmd` processes, driven by the real `swarmctl`, with tasks in real containers and in plain
//! processes.
//!
//! The binaries are in the directory of this test's own: `cargo test --workspace` builds them, and
//! `cargo build --workspace --bins` builds only them. Tests with containers need a Docker Engine (at `DOCKER_HOST`, or the
//! default socket) with the images of `scripts/engine image`. They are ignored by default; `scripts/test` includes them if there
//! is an engine. The same applies to tests that require root, such as those that create networks and disks.

mod archives;
mod audit;
mod autoscale;
mod backup;
mod bad_input;
mod catch_up;
mod cluster;
mod command_stream;
mod cut_short;
mod daemon;
mod damage;
mod exec;
mod external_ca;
mod faults;
mod flood;
mod full_disk;
mod healing;
mod history;
mod hostile;
mod hosts;
mod install;
mod journey;
mod leaving;
mod logs;
mod managers;
mod options;
mod process;
mod quorum;
mod recovery;
mod redact;
mod refused_nodes;
mod restore;
mod resume;
mod scrub;
mod secrets;
mod sinks;
mod slow_disk;
mod state_dirs;
mod trust;
mod ui;
mod units;
mod upgrade;
mod worker_disk;
mod workloads;
mod wrong_clock;

/// Runs each test with tasks in containers, and with tasks as processes.
macro_rules! on_both {
    ($($module:ident::$test:ident)*) => {
        mod on_docker { $(
            #[test]
            #[ignore = "needs a Docker Engine"]
            fn $test() {
                crate::$module::$test(crate::units::Executor::Docker);
            }
        )* }
        mod on_processes { $(
            #[test]
            fn $test() {
                crate::$module::$test(crate::units::Executor::Process);
            }
        )* }
    };
}

on_both! {
    secrets::a_secret_is_in_the_memory_of_its_task_and_nowhere_else
    journey::the_readmes_journey
    healing::a_killed_task_comes_back
    healing::a_restarted_agent_adopts_its_tasks
    healing::the_tasks_of_a_lost_worker_move
    managers::a_manager_killed_in_a_burst_forgets_nothing_it_acknowledged
    managers::without_a_manager_tasks_go_on_but_are_not_restarted
    daemon::a_dev_cluster_leaves_nothing_behind
    refused_nodes::a_worker_that_is_removed_while_it_works_stops_its_tasks
    workloads::a_task_is_running_when_it_is_healthy
    workloads::templates_are_expanded_on_the_node
    secrets::templates_of_files_are_expanded_in_memory
    workloads::a_job_runs_to_its_end_and_gives_its_exit_code
    autoscale::tasks_that_use_more_than_they_should_get_others_beside_them
    logs::logs_of_all_nodes_come_through_any_manager
    exec::commands_run_in_tasks_through_any_manager
    ui::a_page_lives_in_a_terminal_and_gives_it_back
}

/// Tests with containers only, and tests for root only: ignored unless requested.
macro_rules! where_possible {
    ($place:ident, $reason:literal: $($module:ident::$test:ident)*) => {
        mod $place { $(
            #[test]
            #[ignore = $reason]
            fn $test() {
                crate::$module::$test();
            }
        )* }
    };
}

where_possible! { on_docker_only, "needs a Docker Engine":
    workloads::a_missing_image_is_told_in_the_engines_words
    exec::who_attaches_to_a_terminal_types_into_it_and_leaves_it
    workloads::a_bad_mount_is_told_in_the_engines_words
    options::every_option_reaches_its_container
    options::newer_options_of_mounts_reach_their_container_or_are_refused
    options::privileges_and_what_an_engine_lacks
}

where_possible! { as_root, "needs root":
    faults::what_managers_acknowledged_they_keep_whatever_breaks
    full_disk::on_a_full_disk_nothing_is_added_and_everything_else_goes_on
    daemon::who_reads_history_without_a_thread_is_told_so_and_others_are_served
}

//! Messages of a spec that set nothing. One that is there and one that is absent mean the same, so that only one of the two is kept:
//! a spec that differs in nothing else is no other spec, and replaces no task.

use crate::schema::{ContainerSpec, Mount, Resources, ServiceSpec, TaskSpec};

impl ServiceSpec {
    /// The spec without messages that set nothing. Absent on purpose are those whose presence means something: `rebalance` and the log
    /// driver, which hides that of the cluster.
    #[must_use]
    pub fn without_empty_messages(mut self) -> Self {
        for message in [&mut self.update, &mut self.rollback] {
            drop_empty(message);
        }
        drop_empty(&mut self.endpoint);
        self.task.iter_mut().for_each(tidy_task);
        self
    }
}

fn tidy_task(task: &mut TaskSpec) {
    if let Some(resources) = &mut task.resources {
        drop_empty::<Resources>(&mut resources.limits);
        drop_empty::<Resources>(&mut resources.reservations);
    }
    drop_empty(&mut task.resources);
    drop_empty(&mut task.restart);
    drop_empty(&mut task.placement);
    task.container.iter_mut().for_each(tidy_container);
}

fn tidy_container(container: &mut ContainerSpec) {
    drop_empty(&mut container.privileges);
    drop_empty(&mut container.dns);
    drop_empty(&mut container.healthcheck);
    container.mounts.iter_mut().for_each(tidy_mount);
}

fn tidy_mount(mount: &mut Mount) {
    drop_empty(&mut mount.bind);
    drop_empty(&mut mount.volume);
    drop_empty(&mut mount.tmpfs);
}

fn drop_empty<M: Default + PartialEq>(message: &mut Option<M>) {
    message.take_if(|message| *message == M::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Driver, EndpointSpec, Placement, Rebalance, ResourceRequirements};

    fn spec(edit: impl Fn(&mut ServiceSpec)) -> ServiceSpec {
        let task = TaskSpec { container: Some(ContainerSpec::default()), ..TaskSpec::default() };
        let mut spec = ServiceSpec { task: Some(task), ..ServiceSpec::default() };
        edit(&mut spec);
        spec
    }

    #[test]
    fn a_message_that_sets_nothing_is_left_out_and_any_other_stays() {
        type Edit = fn(&mut ServiceSpec);
        let of_task = |edit: fn(&mut TaskSpec)| move |spec: &mut ServiceSpec| spec.task.iter_mut().for_each(edit);
        let limits = |memory_bytes| {
            let limits = Some(Resources { memory_bytes, ..Resources::default() });
            Some(ResourceRequirements { limits, reservations: Some(Resources::default()), ..Default::default() })
        };
        let empty: [Edit; 4] = [
            |spec| spec.endpoint = Some(EndpointSpec::default()),
            |spec| spec.update = Some(Default::default()),
            |spec| spec.rollback = Some(Default::default()),
            |_| {},
        ];
        for (row, edit) in empty.into_iter().enumerate() {
            assert_eq!(spec(edit).without_empty_messages(), spec(|_| {}), "row {row}");
        }
        let in_task: [fn(&mut TaskSpec); 6] = [
            |task| task.restart = Some(Default::default()),
            |task| task.placement = Some(Placement::default()),
            |task| task.container.iter_mut().for_each(|container| container.dns = Some(Default::default())),
            |task| task.container.iter_mut().for_each(|container| container.privileges = Some(Default::default())),
            |task| task.container.iter_mut().for_each(|container| container.healthcheck = Some(Default::default())),
            |task| task.resources = Some(Default::default()),
        ];
        for (row, edit) in in_task.into_iter().enumerate() {
            assert_eq!(spec(of_task(edit)).without_empty_messages(), spec(|_| {}), "row {row} of the task");
        }
        let limited = |memory_bytes| spec(|spec| spec.task.get_or_insert_default().resources = limits(memory_bytes));
        assert_eq!(limited(0).without_empty_messages(), spec(|_| {}));
        let kept = limited(1).without_empty_messages();
        let kept = kept
            .template()
            .resources
            .as_ref()
            .map(|resources| (resources.limits.is_some(), resources.reservations.is_some()));
        assert_eq!(kept, Some((true, false)));
        let meant = spec(|spec| {
            spec.rebalance = Some(Rebalance::default());
            spec.task.get_or_insert_default().log_driver = Some(Driver::default());
        });
        assert_eq!(meant.clone().without_empty_messages(), meant);
    }
}

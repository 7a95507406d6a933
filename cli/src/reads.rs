//! Reads that precede a change: from the present state, or in a script from the state after the lines before.

use wire::v1::read_after_reply::Page;
use wire::v1::read_after_request::Read;
use wire::v1::{
    ClusterView, ConfigView, DescribeSecretsRequest, GetClusterRequest, InspectNodesRequest, InspectServicesRequest,
    ListServicesRequest, ListTasksRequest, NodeView, ReadAfterRequest, ReadConfigsRequest, SecretView, ServiceSummary,
    ServiceView, TaskList,
};

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;

impl<M: Manager> Session<'_, M> {
    /// The services with these references; an unknown reference is a failure.
    ///
    /// # Errors
    /// When a reference is unknown, or the connection to the manager is lost.
    pub async fn services(&mut self, services: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        if self.read_after == 0 {
            return self.manager.services(services).await;
        }
        self.objects_after(Read::Services(InspectServicesRequest { services }), |page| {
            if let Page::Services(list) = page { list.services } else { Vec::new() }
        })
        .await
    }

    /// The same for nodes.
    ///
    /// # Errors
    /// When a reference is unknown, or the connection to the manager is lost.
    pub async fn nodes(&mut self, nodes: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        if self.read_after == 0 {
            return self.manager.nodes(nodes).await;
        }
        self.objects_after(Read::Nodes(InspectNodesRequest { nodes }), |page| {
            if let Page::Nodes(list) = page { list.nodes } else { Vec::new() }
        })
        .await
    }

    /// The configs with these references and their data; without references all configs, without data.
    ///
    /// # Errors
    /// When a reference is unknown, or the connection to the manager is lost.
    pub async fn configs(&mut self, configs: Vec<String>) -> Result<Vec<ConfigView>, Failure> {
        if self.read_after == 0 {
            return self.manager.configs(configs).await;
        }
        self.objects_after(Read::Configs(ReadConfigsRequest { configs }), |page| {
            if let Page::Configs(list) = page { list.configs } else { Vec::new() }
        })
        .await
    }

    /// The secrets with these references; without references all.
    ///
    /// # Errors
    /// When a reference is unknown, or the connection to the manager is lost.
    pub async fn secrets(&mut self, secrets: Vec<String>) -> Result<Vec<SecretView>, Failure> {
        if self.read_after == 0 {
            return self.manager.secrets(secrets).await;
        }
        self.objects_after(Read::Secrets(DescribeSecretsRequest { secrets }), |page| {
            if let Page::Secrets(list) = page { list.secrets } else { Vec::new() }
        })
        .await
    }

    /// A list of services, in the order of their names.
    ///
    /// # Errors
    /// When the connection to the manager is lost.
    pub async fn list_services(&mut self, request: ListServicesRequest) -> Result<Vec<ServiceSummary>, Failure> {
        if self.read_after == 0 {
            return self.manager.list_services(request).await;
        }
        self.objects_after(Read::ListServices(request), |page| {
            if let Page::ListServices(list) = page { list.services } else { Vec::new() }
        })
        .await
    }

    /// Tasks; an unknown reference is a failure.
    ///
    /// # Errors
    /// When a reference is unknown, or the connection to the manager is lost.
    pub async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        if self.read_after == 0 {
            return self.manager.tasks(request).await;
        }
        let tasks = |page| if let Page::Tasks(list) = page { list.tasks } else { Vec::new() };
        Ok(TaskList { tasks: self.objects_after(Read::Tasks(request), tasks).await?, ..TaskList::default() })
    }

    /// The cluster's settings.
    ///
    /// # Errors
    /// When the connection to the manager is lost.
    pub async fn cluster(&mut self) -> Result<ClusterView, Failure> {
        if self.read_after == 0 {
            return self.manager.cluster(false).await;
        }
        let cluster = |page| if let Page::Cluster(cluster) = page { vec![cluster] } else { Vec::new() };
        let found = self.objects_after(Read::Cluster(GetClusterRequest::default()), cluster).await?.pop();
        found.ok_or_else(|| Failure::new(Kind::Other, "the manager sent an unexpected answer"))
    }

    /// All pages of a read on the state after the earlier lines.
    async fn objects_after<T>(&mut self, read: Read, objects: impl Fn(Page) -> Vec<T>) -> Result<Vec<T>, Failure> {
        let steps = self.trial.iter().flatten().take(self.read_after).cloned().collect();
        let replies = self.manager.read_after(ReadAfterRequest { steps, read: Some(read) }).await?;
        self.tentative.extend(replies.iter().flat_map(|reply| reply.tentative.iter().cloned()));
        Ok(replies.into_iter().filter_map(|reply| reply.page).flat_map(objects).collect())
    }

    /// How a change refers to an object: by its id, or by its name if it is created by an earlier line of the script.
    pub fn reference(&self, id: impl ToString, name: &str) -> String {
        let id = id.to_string();
        if self.tentative.contains(&id) { name.to_owned() } else { id }
    }
}

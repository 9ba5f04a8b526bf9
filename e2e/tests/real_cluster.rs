//! A whole cluster with one node: pods that run, a Service that answers, crashes, and that nothing is left.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};
use pod_reloader_e2e::{Image, NodePart, Options, RealCluster, User, eventually, node};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
};

const DEADLINE: Duration = Duration::from_mins(2);
const WEB: &str = include_str!("real-cluster/web.yaml");

/// What that process prints, before its folder, when a pod runs.
const READY: &str = "ready to be killed in ";

/// Set for a process that is to be killed: see `a_run_to_be_killed`.
const TO_BE_KILLED: &str = "POD_RELOADER_E2E_TO_BE_KILLED";

/// Two clusters would take each other's time, and look like each other's remains.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn pods_run_and_services_answer_and_nothing_is_left() {
    let _alone = ALONE.lock().await;
    if let Err(why) = node::available() {
        println!("skipped: {why}");
        return;
    }
    let before = Machine::look();
    let began = Instant::now();
    let cluster = RealCluster::start(Options::default()).await.unwrap();
    println!("booted in {:.1?}", began.elapsed());
    let directory = cluster.directory().to_owned();

    pods_run(&cluster).await.unwrap();
    let containers = containers_in(&directory);
    assert!(containers.len() >= 2, "{containers:?}");
    parts_are_restarted(&cluster).await.unwrap();
    assert!(!processes_of(&directory, &[]).is_empty());
    let containers = [containers, containers_in(&directory)].concat();

    let began = Instant::now();
    cluster.stop().await.unwrap();
    println!("stopped in {:.1?}", began.elapsed());
    nothing_is_left(&directory, &containers, &before).unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_a_run_that_was_killed() {
    let _alone = ALONE.lock().await;
    if let Err(why) = node::available() {
        println!("skipped: {why}");
        return;
    }
    let before = Machine::look();
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_run_to_be_killed", "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(run.stdout.take().unwrap()).lines();
    let ready = output.map_while(Result::ok).find_map(|line| {
        let (_, directory) = line.split_once(READY)?;
        Some(PathBuf::from(directory.trim()))
    });
    let containers = ready.as_deref().map(containers_in).unwrap_or_default();
    run.kill().unwrap();
    run.wait().unwrap();
    let directory = ready.expect("it ended before it was killed");
    assert!(containers.len() >= 2, "{containers:?}");
    let gone = eventually("everything to be gone", DEADLINE, || async {
        nothing_is_left(&directory, &containers, &before)
    });
    gone.await.unwrap();
}

/// Does nothing unless [`nothing_is_left_of_a_run_that_was_killed`] starts it in a process of its own.
#[tokio::test]
async fn a_run_to_be_killed() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let cluster = RealCluster::start(Options::default()).await.unwrap();
    deploy(&cluster).await.unwrap();
    println!("{READY}{}", cluster.directory().display());
    std::future::pending::<()>().await;
}

async fn deploy(cluster: &RealCluster) -> anyhow::Result<()> {
    let archive = cluster.directory().join("web.tar");
    Image::busybox("localhost/web:1")?.write(&archive)?;
    cluster.import_image(&archive).await?;
    let kubectl = cluster.kubectl(User::Editor);
    kubectl.run_with_input(["apply", "-f", "-"], WEB).await?;
    kubectl.run(["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
    Ok(())
}

async fn pods_run(cluster: &RealCluster) -> anyhow::Result<()> {
    deploy(cluster).await?;
    let kubectl = cluster.kubectl(User::Editor);

    let address = service(cluster).await?;
    let answer = eventually("the Service to answer", DEADLINE, || get(address)).await?;
    ensure!(answer.contains("hello from the Secret"), "{answer}");
    ensure!(cluster.forward(&service_target(cluster).await?)? == address, "another port at the second call");
    many_connections(cluster).await?;

    // Pods reach the API server by the `kubernetes` Service, and the API server reaches the kubelet.
    let logs = kubectl.run(["logs", "deployment/web"]).await?;
    ensure!(logs.contains("started"), "{logs}");
    let ask = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT";
    let answer = kubectl.run(["exec", "deployment/web", "--", "sh", "-c", ask]).await?;
    ensure!(answer.contains("HTTP request to an HTTPS server"), "{answer}");

    // The audit log distinguishes the parts of the node.
    let entries = cluster.audit().since(pod_reloader_e2e::Mark::default()).await?;
    ensure!(entries.iter().any(|entry| entry.is_by(User::Kubelet)), "no request by the kubelet");
    ensure!(entries.iter().any(|entry| entry.is_by(User::Scheduler) && entry.subresource == "binding"));
    Ok(())
}

/// To the API server, by its Service: busybox accepts but a few at once.
async fn many_connections(cluster: &RealCluster) -> anyhow::Result<()> {
    let services: Api<Service> = Api::default_namespaced(cluster.client(User::Editor).await?);
    let spec = services.get("kubernetes").await?.spec.context("no spec")?;
    let address = cluster.forward(&format!("{}:443", spec.cluster_ip.context("no address")?))?;
    let mut many = JoinSet::new();
    for _ in 0..300 {
        many.spawn(ask(address));
    }
    while let Some(answer) = many.join_next().await {
        let answer = answer??;
        ensure!(answer.contains("HTTP request to an HTTPS server"), "{answer}");
    }
    Ok(())
}

async fn parts_are_restarted(cluster: &RealCluster) -> anyhow::Result<()> {
    let before = pod(cluster).await?;
    let address = service(cluster).await?;
    cluster.kill(NodePart::Kubelet).await?;
    cluster.kill(NodePart::Containerd).await?;
    get(address).await.context("a pod should survive the kubelet and containerd")?;
    cluster.start_again(NodePart::Containerd).await?;
    cluster.start_again(NodePart::Kubelet).await?;
    ensure!(pod(cluster).await? == before, "the pod was replaced or restarted");
    get(address).await?;

    // They are still in charge of it.
    let kubectl = cluster.kubectl(User::Editor);
    kubectl.run(["rollout", "restart", "deployment/web"]).await?;
    kubectl.run(["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
    cluster.restart(NodePart::Proxy).await?;
    cluster.restart(NodePart::Scheduler).await?;
    eventually("the Service to answer", DEADLINE, || get(address)).await?;
    Ok(())
}

/// Name and restarts of the only pod.
async fn pod(cluster: &RealCluster) -> anyhow::Result<(Option<String>, i32)> {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client(User::Editor).await?);
    let mut pods = pods.list(&ListParams::default()).await?.items;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    let pod = pods.remove(0);
    let status = pod.status.context("no status")?.container_statuses.unwrap_or_default();
    Ok((pod.metadata.name, status.iter().map(|container| container.restart_count).sum()))
}

async fn service_target(cluster: &RealCluster) -> anyhow::Result<String> {
    let services: Api<Service> = Api::default_namespaced(cluster.client(User::Editor).await?);
    let spec = services.get("web").await?.spec.context("no spec")?;
    Ok(format!("{}:80", spec.cluster_ip.context("no address")?))
}

async fn service(cluster: &RealCluster) -> anyhow::Result<SocketAddr> {
    cluster.forward(&service_target(cluster).await?)
}

async fn get(address: SocketAddr) -> anyhow::Result<String> {
    let answer = ask(address).await?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    Ok(answer)
}

/// A request in plain HTTP.
async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.context("no answer")?
}

fn list(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What a cluster could change of the machine.
#[derive(Debug, PartialEq)]
struct Machine {
    networks: Vec<PathBuf>,
    devices: Vec<PathBuf>,
    settings: Vec<Option<String>>,
}

impl Machine {
    fn look() -> Self {
        // A kubelet would set these.
        let settings = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];
        let settings =
            settings.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).ok()).to_vec();
        Self { networks: list("/run/netns"), devices: list("/sys/class/net"), settings }
    }
}

/// The ids of the containers of the cluster in `directory`.
fn containers_in(directory: &Path) -> Vec<String> {
    let tasks = directory.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    list(&tasks.display().to_string()).iter().filter_map(name).collect()
}

fn nothing_is_left(directory: &Path, containers: &[String], before: &Machine) -> anyhow::Result<()> {
    ensure!(!directory.exists(), "{} is still there", directory.display());
    let processes = processes_of(directory, containers);
    ensure!(processes.is_empty(), "{processes:?}");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find(|line| line.contains(&directory.display().to_string()));
    ensure!(mount.is_none(), "{mount:?}");
    let roots = list("/sys/fs/cgroup").into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
    let cgroup = |root: PathBuf| containers.iter().map(move |id| root.join("k8s.io").join(id));
    let cgroups: Vec<_> = roots.flat_map(cgroup).filter(|path| path.exists()).collect();
    ensure!(cgroups.is_empty(), "{cgroups:?}");
    let now = Machine::look();
    ensure!(now == *before, "{before:?} became {now:?}");
    Ok(())
}

/// Processes that have to do with a cluster: by their arguments.
fn processes_of(directory: &Path, containers: &[String]) -> Vec<String> {
    let directory = directory.display().to_string();
    let of = |id: &PathBuf| {
        let arguments = std::fs::read_to_string(id.join("cmdline")).ok()?.replace('\0', " ");
        let ours = arguments.contains(&directory) || containers.iter().any(|id| arguments.contains(id));
        ours.then_some(arguments)
    };
    list("/proc").iter().filter_map(of).collect()
}

//! What every executor must do with files that are copied into a task and out of it.

use std::io::Read;

use futures_util::stream::{self, StreamExt};
use node::agent::executor::{ExecutorError, Workload};
use wire::v1::interact_order::What;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{CopySpec, CopyTarget, EndOfInput};

use crate::bench::{Bench, check, container};

/// What is at the path, and the archive that comes out.
async fn copy(
    bench: &Bench,
    workload: &Workload,
    spec: CopySpec,
    inputs: Vec<Input>,
) -> Result<(CopyTarget, Vec<u8>), ExecutorError> {
    let mut outputs = bench.executor.interact(workload, What::Copy(spec), stream::iter(inputs).boxed()).await?;
    let Some(Ok(Output::Target(target))) = outputs.next().await else { panic!("what is there comes first") };
    let mut archive = Vec::new();
    loop {
        match outputs.next().await.expect("an end")? {
            Output::Stdout(piece) => archive.extend(piece),
            Output::ExitCode(0) => return Ok((target, archive)),
            other => panic!("neither an archive nor its end: {other:?}"),
        }
    }
}

fn out_of(path: &str, follow_link: bool) -> CopySpec {
    CopySpec { path: path.to_owned(), to_task: false, follow_link }
}

fn into(path: &str) -> CopySpec {
    CopySpec { path: path.to_owned(), to_task: true, follow_link: true }
}

/// The names and texts of an archive.
fn files(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(archive);
    let read = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let (name, mut text) = (entry.path().expect("a path").display().to_string(), String::new());
        entry.read_to_string(&mut text).expect("a text");
        (name, text)
    });
    read.collect()
}

fn archive(name: &str, data: &[u8]) -> Vec<u8> {
    let (mut builder, mut header) = (tar::Builder::new(Vec::new()), tar::Header::new_gnu());
    header.set_size(data.len() as u64);
    header.set_mode(0o640);
    builder.append_data(&mut header, name, data).expect("appended");
    builder.into_inner().expect("complete")
}

/// An archive in pieces, and its end.
fn given(archive: &[u8]) -> Vec<Input> {
    let pieces = archive.chunks(32 << 10).map(|piece| Input::Data(piece.to_vec()));
    pieces.chain([Input::End(EndOfInput {})]).collect()
}

pub async fn files_go_into_a_task_and_come_out(bench: &Bench) {
    let line = "trap 'exit 0' TERM; mkdir -p $IN/data/deep; echo one > $IN/data/one; ln -s one $IN/data/link; while :; do sleep 0.1; done";
    let mut workload = bench.shell(line);
    let below = if bench.is_process() { bench.scratch() } else { "/srv".to_owned() };
    container(&mut workload).env = vec![format!("IN={below}")];
    container(&mut workload).healthcheck = check("test -e $IN/data/link", 1000);
    bench.executor.prepare(&workload).await.expect("prepared");
    bench.executor.start(&workload).await.expect("started");
    if bench.is_process() {
        let refused = copy(bench, &workload, out_of("/srv", false), Vec::new()).await.expect_err("refused");
        assert!(refused.to_string().contains("no files of their own"), "{refused}");
        return;
    }
    let target = |exists, is_directory, name: &str| CopyTarget { exists, is_directory, name: name.to_owned() };
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());

    let (found, came) = copy(bench, &workload, out_of("/srv/data/one", false), Vec::new()).await.expect("copied");
    assert_eq!((found, files(&came)), (target(true, false, "one"), vec![file("one", "one\n")]));
    let (found, came) = copy(bench, &workload, out_of("/srv/data/link", true), Vec::new()).await.expect("copied");
    assert_eq!((found, files(&came)), (target(true, false, "one"), vec![file("one", "one\n")]), "what it points to");
    let (found, came) = copy(bench, &workload, out_of("/srv/data", false), Vec::new()).await.expect("copied");
    let mut names: Vec<_> = files(&came).into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(
        (found.is_directory, names),
        (true, ["data/", "data/deep/", "data/link", "data/one"].map(str::to_owned).into())
    );
    let refused = copy(bench, &workload, out_of("/no/such", false), Vec::new()).await.expect_err("nothing there");
    assert!(refused.to_string().contains("there is no /no/such"), "{refused}");

    // More than what is on its way at a time.
    let large = "x".repeat(3 << 20);
    let (found, _) = copy(bench, &workload, into("/srv/data/deep"), given(&archive("large", large.as_bytes())))
        .await
        .expect("copied");
    assert_eq!(found, target(true, true, "deep"));
    let (_, came) = copy(bench, &workload, out_of("/srv/data/deep/large", false), Vec::new()).await.expect("copied");
    assert_eq!(files(&came), [file("large", &large)]);
    // Where nothing is yet, the archive goes into the directory above, and a link to a file is followed.
    let (found, _) = copy(bench, &workload, into("/srv/new"), given(&archive("new", b"2"))).await.expect("copied");
    assert_eq!(found, target(false, false, "new"));
    let (found, _) =
        copy(bench, &workload, into("/srv/data/link"), given(&archive("one", b"3"))).await.expect("copied");
    assert_eq!(found, target(true, false, "one"));
    let (_, came) = copy(bench, &workload, out_of("/srv/data/link", true), Vec::new()).await.expect("copied");
    assert_eq!(files(&came), [file("one", "3")]);

    // Who is gone before the end has copied nothing whole.
    let mut cut = given(&archive("cut", large.as_bytes()));
    cut.truncate(3);
    assert!(copy(bench, &workload, into("/srv"), cut).await.is_err());
    let refused = copy(bench, &workload, into("/srv"), given(b"no archive at all")).await;
    assert!(matches!(refused, Err(ExecutorError::Fatal(_))), "{refused:?}");
}

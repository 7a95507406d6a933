//! Verbs about secrets.

mod create;
mod inspect;
mod ls;
mod rm;
mod update;

/// Longest input that is read, in bytes: a little more than a secret may have, so that the manager can say what is wrong.
const BYTES_MAX: usize = 512 * 1024;

super::verbs! {
    Create(create::Args) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(update::Args) => update,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}

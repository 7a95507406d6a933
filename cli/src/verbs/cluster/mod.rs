//! Verbs about the cluster itself.

mod backup;
mod ca;
mod inspect;
mod ls;
mod unlock;
mod unlock_key;
mod update;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(update::Args) => update,
    Ca(ca::Args) => ca,
    UnlockKey(unlock_key::Args) => unlock_key,
    Unlock(unlock::Args) => unlock,
    Backup(backup::Args) => backup,
}

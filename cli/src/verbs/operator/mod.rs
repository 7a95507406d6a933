//! Verbs about operators with a certificate.

mod create;
mod ls;
mod renew;
mod revoke;

super::verbs! {
    Create(create::Args) => create,
    Ls(ls::Args) => ls,
    Renew(renew::Args) => renew,
    #[command(alias = "rm")]
    Revoke(revoke::Args) => revoke,
}

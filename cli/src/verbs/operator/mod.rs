//! Verbs about operators with a certificate.

mod create;
mod ls;
mod revoke;

super::verbs! {
    Create(create::Args) => create,
    Ls(ls::Args) => ls,
    #[command(alias = "rm")]
    Revoke(revoke::Args) => revoke,
}

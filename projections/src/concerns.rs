//! How it is declared what a change concerns, and what is looked at because of it.

/// Declares what a change concerns: sets of keys by noun, and flags. Each row is all that a noun needs here.
#[macro_export]
macro_rules! concerns {
    (
        $(#[$about:meta])*
        pub struct $name:ident
        sets { $($(#[$about_set:meta])* $set:ident: $key:ty,)+ }
        flags { $($(#[$about_flag:meta])* $flag:ident,)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about_set])* pub $set: ::std::collections::BTreeSet<$key>,)+
            $($(#[$about_flag])* pub $flag: bool,)*
        }

        impl $name {
            /// Whether there is nothing in it.
            pub fn is_empty(&self) -> bool {
                $(self.$set.is_empty())&&+ $(&& !self.$flag)*
            }

            /// Adds what another holds.
            pub fn merge(&mut self, mut other: Self) {
                $(self.$set.append(&mut other.$set);)+
                $(self.$flag |= other.$flag;)*
            }
        }
    };
}

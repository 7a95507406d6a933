//! Operators that have a certificate.

use events::Named;
use wire::v1::OperatorView;

use super::age;
use super::table::Table;
use super::view::View;

/// A list of operators.
pub fn table(operators: &[OperatorView], view: View) -> String {
    let mut table = Table::new(&["ID", "NAME", "ROLE", "CREATED", "VALID UNTIL"]);
    for operator in operators {
        table.row([
            operator.id.to_string(),
            operator.name.clone(),
            operator.role().name(),
            age::ago(operator.meta.created_at, view.now),
            valid_until(operator),
        ]);
    }
    table.render(view.width)
}

fn valid_until(operator: &OperatorView) -> String {
    if operator.root_replaced { "root replaced: not valid".to_owned() } else { operator.not_after.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn operators_are_listed_with_what_they_may_do() {
        let expected = "\
ID                          NAME      ROLE      CREATED         VALID UNTIL
000000000000000000000000c   ada       viewer    3 minutes ago   2027-01-16T08:00:00.000000000Z
";
        assert_eq!(table(&[samples::operator()], samples::VIEW), expected);
        let replaced = OperatorView { root_replaced: true, ..samples::operator() };
        assert!(table(&[replaced], samples::VIEW).contains("root replaced: not valid"));
    }
}

use super::*;
use proptest::prelude::*;

/// The class, the end of the time to wait, the index and the weight of a waiter.
type Entry = (usize, u64, u32, u64);

/// Checks the balance and the sums of a tree, and adds its waiters to `order`. Returns the sum of its waiters, and its
/// depth.
fn walk(tree: &Deadlines, at: u32, order: &mut Vec<u32>) -> (Backlog, usize) {
    if at == NONE {
        return (Backlog::default(), 0);
    }
    let node = tree.node(at);
    let (left, left_depth) = walk(tree, node.left, order);
    order.push(at);
    let (right, right_depth) = walk(tree, node.right, order);
    let [one, other] = [left.calls + 1, right.calls + 1];
    assert!(one <= 3 * other && other <= 3 * one, "{one} and {other}");
    assert_eq!(node.all, left.plus(right).plus(Backlog { calls: 1, weight: node.weight.into() }));
    (node.all, 1 + left_depth.max(right_depth))
}

fn check(tree: &Deadlines, list: &[Entry]) {
    let mut order = Vec::new();
    walk(tree, tree.root, &mut order);
    let of = |entries: &[&Entry]| Backlog {
        calls: entries.len(),
        weight: entries.iter().map(|entry| u128::from(entry.3)).sum(),
    };
    let mut expected: Vec<&Entry> = list.iter().collect();
    expected.sort_by_key(|(class, until, ..)| (CLASSES - class, *until));
    assert_eq!(order, expected.iter().map(|entry| entry.2).collect::<Vec<_>>());
    let place = |entry: &&Entry| WaiterId(entry.2);
    assert_eq!(tree.first(), expected.first().map(place));
    assert_eq!(tree.last(), expected.last().map(place));
    for class in 0..CLASSES {
        assert_eq!(tree.first_of(class), expected.iter().find(|entry| entry.0 == class).map(place));
        for until in [0, 3, 9, u64::MAX] {
            let before: Vec<&Entry> =
                list.iter().filter(|entry| entry.0 > class || entry.0 == class && entry.1 <= until).collect();
            assert_eq!(tree.before(class, Nanos(until)), of(&before));
        }
    }
}

proptest! {
    #[test]
    fn it_keeps_the_order_the_sums_and_the_balance_of_a_sorted_list(
        steps in prop::collection::vec(
            (0..3_u8, 0..CLASSES, prop_oneof![0..10_u64, any::<u64>()], any::<u64>(), any::<prop::sample::Index>()),
            1..200,
        ),
    ) {
        let (mut tree, mut list, mut free) = (Deadlines::new(), Vec::<Entry>::new(), Vec::new());
        for (step, class, until, weight, index) in steps {
            if step < 2 || list.is_empty() {
                let place = free.pop().unwrap_or(list.len() as u32);
                list.push((class, until, place, weight));
                tree.join(WaiterId(place), class, weight, Nanos(until));
            } else {
                let (.., place, _) = list.remove(index.index(list.len()));
                free.push(place);
                tree.leave(WaiterId(place));
            }
            check(&tree, &list);
        }
    }
}

#[test]
fn deadlines_in_order_or_in_the_opposite_order_make_no_deep_tree() {
    for backwards in [false, true] {
        let mut tree = Deadlines::new();
        for number in 0..100_000_u32 {
            let until = if backwards { 100_000 - number } else { number };
            tree.join(WaiterId(number), 0, 1, Nanos(until.into()));
        }
        let (_, depth) = walk(&tree, tree.root, &mut Vec::new());
        assert!(depth <= 41, "{depth}");
        for number in 0..99_000 {
            tree.leave(WaiterId(number));
        }
        let (all, depth) = walk(&tree, tree.root, &mut Vec::new());
        assert_eq!(all.calls, 1_000);
        assert!(depth <= 25, "{depth}");
    }
}

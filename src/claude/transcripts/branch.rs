//! The conversation as Claude will remember it, out of the lines of a transcript.
//!
//! A transcript is not a list. Each line names the line that it follows, and two things follow from what the real CLI
//! does with that (seen on 2.1.197 and 2.1.330):
//!
//! - Going back to an earlier prompt (Esc twice, or `--resume-session-at`) begins a branch beside what followed that
//!   point, which stays in the file and is no longer part of the conversation.
//! - The order in the file is not the order of the conversation: in a terminal, 2.1.197 writes the first answer before
//!   the first prompt. And it writes the last answer twice when a compaction follows at once.
//!
//! ```text
//!  prompt ─▶ answer ─▶ prompt ─▶ answer                                 left behind: a branch that a prompt begins
//!              └─────▶ prompt ─▶ use a ─▶ result a ─▶ answer            live: from the last line back to the first
//!                                  └────▶ use b ─▶ result b             kept: tools that ran side by side
//! ```

use std::collections::HashMap;

/// What a line is in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What a branch begins with: a prompt, a command.
    Start,
    /// What follows one: answers, results of tools, and compactions, which what comes after may pass by.
    Follow,
    /// What hangs beside them: the attachments.
    Aside,
    /// A sub-agent's.
    Side,
}

/// A line of a transcript that has a place in the conversation.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub uuid: Option<u128>,
    pub parent: Option<u128>,
    pub part: Part,
}

/// The lines of the live conversation, by their index, in its order: every line after the one that it follows.
///
/// Damage costs as little as it can: a line whose parent is missing follows the line before it in the file.
pub(super) fn order(nodes: &[Node]) -> Vec<usize> {
    let by_uuid = by_uuid(nodes);
    let parents = parents(nodes, &by_uuid);
    let mut kept = kept(nodes, &parents);
    for (at, node) in nodes.iter().enumerate() {
        kept[at] &= node.uuid.is_none_or(|uuid| by_uuid.get(&uuid) == Some(&at));
    }
    let mut order = Vec::new();
    let mut placed = vec![false; nodes.len()];
    for at in (0..nodes.len()).filter(|at| kept[*at]) {
        let path = climb(at, &parents, |up| placed[up]);
        for up in path.into_iter().rev() {
            placed[up] = true;
            if kept[up] {
                order.push(up);
            }
        }
    }
    order
}

/// Where each line is; of one that was written twice, where it is first.
fn by_uuid(nodes: &[Node]) -> HashMap<u128, usize> {
    let mut by_uuid = HashMap::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        if let Some(uuid) = node.uuid {
            by_uuid.entry(uuid).or_insert(at);
        }
    }
    by_uuid
}

/// The line that each line follows, without circles. A branch may begin the conversation anew.
fn parents(nodes: &[Node], by_uuid: &HashMap<u128, usize>) -> Vec<Option<usize>> {
    let mut before = None;
    let find = |(at, node): (usize, &Node)| {
        let named = node.parent.map(|uuid| by_uuid.get(&uuid).copied().filter(|parent| *parent != at));
        let found = match named {
            Some(Some(parent)) => Some(parent),
            None if node.part == Part::Start && node.uuid.is_some() => None,
            Some(None) | None => before,
        };
        if node.part != Part::Side {
            before = Some(at);
        }
        found
    };
    let mut parents: Vec<_> = nodes.iter().enumerate().map(find).collect();
    cut_circles(&mut parents);
    parents
}

/// Which lines belong to the live conversation.
fn kept(nodes: &[Node], parents: &[Option<usize>]) -> Vec<bool> {
    let leaf = nodes.iter().rposition(|node| matches!(node.part, Part::Start | Part::Follow));
    let mut known: Vec<Option<bool>> = vec![None; nodes.len()];
    for live in leaf.map(|leaf| climb(leaf, parents, |_| false)).unwrap_or_default() {
        known[live] = Some(true);
    }
    for at in 0..nodes.len() {
        let path = climb(at, parents, |up| known[up].is_some());
        let top = path.last().and_then(|top| parents[*top]).and_then(|above| known[above]);
        let mut keep = top.unwrap_or(true);
        for up in path.into_iter().rev() {
            keep &= nodes[up].part != Part::Start;
            known[up] = Some(keep);
        }
    }
    let main = |(node, known): (&Node, Option<bool>)| node.part != Part::Side && known == Some(true);
    nodes.iter().zip(known).map(main).collect()
}

/// From a line up to the last that is not `done`, the lowest first.
fn climb(from: usize, parents: &[Option<usize>], done: impl Fn(usize) -> bool) -> Vec<usize> {
    std::iter::successors(Some(from), |at| parents[*at]).take_while(|at| !done(*at)).collect()
}

/// Makes the first line, in the file, of every circle one that follows none.
fn cut_circles(parents: &mut [Option<usize>]) {
    let mut seen_from = vec![None; parents.len()];
    for from in 0..parents.len() {
        let mut next = Some(from);
        while let Some(at) = next.filter(|at| seen_from[*at].is_none()) {
            seen_from[at] = Some(from);
            next = parents[at];
        }
        if let Some(again) = next.filter(|at| seen_from[*at] == Some(from)) {
            let round = std::iter::successors(parents[again], |at| parents[*at].filter(|_| *at != again));
            if let Some(first) = round.min() {
                parents[first] = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nodes out of `name<parent` words: a capital letter is a prompt, a small one an answer, a digit an attachment, `*`
    /// before the name a sub-agent's. `.` is no parent.
    fn nodes(words: &str) -> Vec<Node> {
        let number = |name: &str| Some(name).filter(|name| *name != ".").and_then(|name| name.bytes().next());
        let node = |word: &str| {
            let (side, word) = word.strip_prefix('*').map_or((false, word), |rest| (true, rest));
            let (name, parent) = word.split_once('<').expect("a parent");
            let part = match number(name).expect("a name") {
                _ if side => Part::Side,
                b'A'..=b'Z' => Part::Start,
                b'a'..=b'z' => Part::Follow,
                _ => Part::Aside,
            };
            Node { uuid: number(name).map(u128::from), parent: number(parent).map(u128::from), part }
        };
        words.split_whitespace().map(node).collect()
    }

    fn check(words: &str, expected: &str) {
        let nodes = nodes(words);
        let names: String = order(&nodes).iter().map(|at| nodes[*at].uuid.expect("named") as u8 as char).collect();
        assert_eq!(names, expected, "{words}");
    }

    #[test]
    fn the_live_conversation_is_found() {
        let cases = [
            ("", ""),
            ("A<. a<A B<a b<B", "AaBb"),
            // Back to an earlier prompt, and to the first one.
            ("A<. a<A B<a b<B C<a c<C", "AaCc"),
            ("A<. a<A B<a b<B C<b c<C D<a d<D E<d", "AaDdE"),
            ("A<. a<A B<. b<B", "Bb"),
            // Tools side by side: the last result goes on, or the first.
            ("A<. a<A b<a c<b x<a y<b z<c d<z B<d", "AabcxyzdB"),
            ("A<. a<A b<a c<b y<b z<c x<a d<x B<d", "AabcyzxdB"),
            // The answer comes before its prompt.
            ("a<1 b<a A<. 1<A B<b", "A1abB"),
            // A sub-agent in the same file.
            ("A<. a<A *S<. *s<S b<a", "Aab"),
            ("A<. a<A *S<a *s<S", "Aa"),
            // A compaction that what comes after passes by.
            ("A<. a<A c<a s<c B<a b<B", "AacsBb"),
            // Written twice.
            ("A<. a<A a<A B<a", "AaB"),
            // An attachment is not the end.
            ("A<. a<A B<a b<B 1<a", "AaBb1"),
        ];
        for (words, expected) in cases {
            check(words, expected);
        }
    }

    #[test]
    fn damage_costs_only_what_is_damaged() {
        let cases = [
            // The first prompt, an answer, a prompt are lost.
            ("a<A B<a b<B", "aBb"),
            ("A<. B<a b<B", "ABb"),
            ("A<. a<A b<B C<b c<C", "AabCc"),
            // Circles, a line that follows itself, a line that is there twice.
            ("A<b a<A b<a", "Aab"),
            ("A<A a<A", "Aa"),
            ("A<. a<b b<a B<b", "abB"),
            ("A<. A<. a<A", "Aa"),
        ];
        for (words, expected) in cases {
            check(words, expected);
        }
    }

    fn any_node() -> impl Strategy<Value = Node> {
        let part = prop_oneof![Just(Part::Start), Just(Part::Follow), Just(Part::Aside), Just(Part::Side)];
        let name = || proptest::option::weighted(0.9, 0u128..30);
        (name(), name(), part).prop_map(|(uuid, parent, part)| Node { uuid, parent, part })
    }

    proptest! {
        #[test]
        fn nothing_twice_and_the_end_always(nodes in proptest::collection::vec(any_node(), 0..40)) {
            let order = order(&nodes);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), order.len());
            prop_assert!(order.iter().all(|at| nodes[*at].part != Part::Side));
            let leaf = nodes.iter().rposition(|node| matches!(node.part, Part::Start | Part::Follow));
            let twice = |leaf: usize| nodes[..leaf].iter().any(|node| node.uuid.is_some() && node.uuid == nodes[leaf].uuid);
            prop_assert!(leaf.is_none_or(|leaf| order.contains(&leaf) || twice(leaf)));
        }

        /// Whatever the tree, when every line comes after its parent in the file, so it does in the conversation; and
        /// without branches nothing is left out.
        #[test]
        fn parents_come_first(seeds in proptest::collection::vec((0usize..100, any::<bool>()), 1..40), chain in any::<bool>()) {
            let nodes: Vec<Node> = seeds.iter().enumerate().map(|(at, (seed, start))| {
                let parent = if chain { at.checked_sub(1) } else { at.checked_sub(1).map(|last| seed % (last + 1)) };
                let part = if *start { Part::Start } else { Part::Follow };
                Node { uuid: Some(at as u128), parent: parent.map(|parent| parent as u128), part }
            }).collect();
            let order = order(&nodes);
            let place = |uuid: u128| order.iter().position(|at| *at as u128 == uuid);
            for (place_of_it, at) in order.iter().enumerate() {
                let parent = nodes[*at].parent.map(place);
                prop_assert!(parent.is_none_or(|parent| parent.is_some_and(|parent| parent < place_of_it)));
            }
            prop_assert!(!chain || order.len() == nodes.len());
        }
    }
}

//! What stays and what goes when the list changes.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Fixture, endpoint, endpoints};
use crate::discovery::{Endpoint, EndpointHealth};

/// The places in the list that calls go to.
fn usable(fixture: &Fixture) -> Vec<usize> {
    (0..fixture.set.usable.len()).map(|place| fixture.set.usable.at(place)).collect()
}

#[test]
fn what_is_known_of_an_endpoint_stays_as_long_as_id_and_address_do() {
    let mut fixture = Fixture::new(endpoints(3));
    let before: Vec<_> = fixture.set.nodes.iter().map(Arc::clone).collect();
    let mut moved = Endpoint::at("10.9.9.9", 80);
    moved.id = endpoint(1).id;
    let heavier = Endpoint { weight: 7, ..endpoint(2) };
    fixture.update(1_000, vec![heavier, moved, endpoint(0)]);
    let after = &fixture.set.nodes;
    assert!(Arc::ptr_eq(&after[0], &before[2]) && Arc::ptr_eq(&after[2], &before[0]));
    assert!(!Arc::ptr_eq(&after[1], &before[1]));
    assert_eq!(fixture.set.endpoint(0).weight, 7);
    assert_eq!(fixture.made, 4);
}

#[test]
fn only_what_comes_after_the_first_list_is_new() {
    let mut fixture = Fixture::new(endpoints(2));
    fixture.update(1_000, endpoints(3));
    let born: Vec<_> = fixture.set.nodes.iter().map(|node| node.born).collect();
    assert_eq!(born, [None, None, Some(fixture.at(1_000))]);
    // An empty list was a list.
    let mut fixture = Fixture::new(Vec::new());
    fixture.update(1_000, endpoints(1));
    assert_eq!(fixture.set.nodes[0].born, Some(fixture.at(1_000)));
}

#[test]
fn critical_endpoints_are_left_out_unless_all_are() {
    let with = |health: &[EndpointHealth]| {
        let list = health.iter().enumerate().map(|(number, health)| Endpoint { health: *health, ..endpoint(number) });
        usable(&Fixture::new(list.collect()))
    };
    use EndpointHealth::{Critical, Passing, Warning};
    assert_eq!(with(&[Critical, Passing, Warning]), [1, 2]);
    assert_eq!(with(&[Critical, Warning]), [1]);
    assert_eq!(with(&[Critical, Critical]), [0, 1]);
    assert_eq!(with(&[]), [0_usize; 0]);
}

#[test]
fn an_endpoint_that_is_listed_twice_counts_once_and_one_without_an_address_not_at_all() {
    let fixture = Fixture::new(vec![endpoint(0), Endpoint::at("not a host", 80), endpoint(0), endpoint(1)]);
    assert_eq!(usable(&fixture), [0, 1]);
    assert_eq!(fixture.set.endpoint(1), &endpoint(1));
}

/// An entry of the list at the address of endpoint 0, as a registry names it.
fn entry(id: &str, health: EndpointHealth, weight: u32) -> Endpoint {
    Endpoint { id: id.into(), health, weight, ..endpoint(0) }
}

/// The entries that calls go to.
fn used(fixture: &Fixture) -> Vec<&str> {
    (0..fixture.set.nodes.len()).map(|at| &*fixture.set.endpoint(at).id).collect()
}

#[test]
fn an_address_counts_once_whatever_its_entries() {
    use EndpointHealth::{Critical, Passing};
    let ghosts = ["a", "b", "c"].map(|id| entry(id, Passing, 3));
    let fixture = Fixture::new([ghosts.to_vec(), vec![Endpoint { weight: 3, ..endpoint(1) }]].concat());
    assert_eq!((used(&fixture).len(), fixture.set.shares.is_none()), (2, true), "weights of one address are not added");
    let fixture = Fixture::new(vec![entry("a", Critical, 1), entry("b", Passing, 1)]);
    assert_eq!(used(&fixture), ["b"], "the healthiest");
    let other_forms = ["::ffff:10.0.0.0", "10.0.0.0"].map(|host| Endpoint::at(host, 80));
    assert_eq!(used(&Fixture::new(other_forms.to_vec())).len(), 1);
}

#[test]
fn a_new_entry_at_an_address_succeeds_the_one_before() {
    use EndpointHealth::{Critical, Passing};
    let mut fixture = Fixture::new(vec![entry("m", Passing, 1), endpoint(1)]);
    let first = Arc::clone(&fixture.set.nodes[0]);
    for (millis, list, expected) in [
        // The order of a list says nothing.
        (1, &["z", "m"][..], "z"),
        (2, &["m", "z"], "z"),
        (3, &["a", "m", "z"], "a"),
        (4, &["a"], "a"),
    ] {
        let entries = list.iter().map(|id| entry(id, Passing, 1)).chain([endpoint(1)]);
        fixture.update(millis, entries.collect());
        assert_eq!(used(&fixture)[0], expected, "{list:?}");
        assert!(fixture.gate(0).0.succeeds, "{list:?}");
    }
    assert!(!first.service.0.succeeds && !Arc::ptr_eq(&first, &fixture.set.nodes[0]));
    fixture.update(5, vec![entry("a", Critical, 1), entry("b", Critical, 1), endpoint(1)]);
    assert_eq!(used(&fixture)[0], "b", "equal health: the new one");
    fixture.update(6, vec![entry("a", Passing, 1), entry("b", Critical, 1), endpoint(1)]);
    assert_eq!(used(&fixture)[0], "a", "health counts first");
    fixture.update(7, vec![endpoint(1)]);
    fixture.update(8, vec![entry("c", Passing, 1), endpoint(1)]);
    assert!(!fixture.gate(0).0.succeeds, "an address that was gone begins anew");
}

#[test]
fn an_endpoint_that_is_no_longer_critical_has_recovered() {
    use EndpointHealth::{Critical, Passing, Warning};
    for (before, after, expected) in [
        (Critical, Passing, true),
        (Critical, Warning, true),
        (Critical, Critical, false),
        (Warning, Passing, false),
        (Passing, Critical, false),
    ] {
        let mut fixture = Fixture::new(vec![entry("a", before, 1)]);
        fixture.update(1, vec![entry("a", after, 1)]);
        assert_eq!(fixture.gate(0).0.recovered.load(Relaxed), expected, "{before:?} to {after:?}");
    }
}

#[test]
fn the_last_list_holds_while_the_source_is_away() {
    let mut fixture = Fixture::new(endpoints(2));
    assert!(!fixture.set.is_stale());
    fixture.updates.lost(fixture.at(5), "no route");
    assert!(fixture.set.is_stale());
    fixture.read(5);
    assert!(!fixture.set.is_stale());
    assert_eq!(usable(&fixture), [0, 1]);
}

#[test]
fn what_was_told_before_nobody_tells_any_more_is_read_once() {
    let mut fixture = Fixture::new(endpoints(1));
    let (other, _) = crate::discovery::Updates::channel();
    fixture.updates.set(endpoints(2));
    drop(std::mem::replace(&mut fixture.updates, other));
    assert!(fixture.set.is_stale());
    fixture.read(5);
    assert_eq!((usable(&fixture).len(), fixture.set.is_stale()), (2, false));
}

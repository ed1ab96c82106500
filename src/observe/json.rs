//! A snapshot and events as JSON. The shape is documented in `docs/stats.md` and does not change but by growing.

use super::counter::Readings;
use super::event::{Event, Value as FieldValue};
use super::snapshot::{ConnectionStats, Group, Node, Role, Snapshot};
use serde_json::{Map, Value, json};

/// What changes when the shape changes otherwise than by growing.
const VERSION: u32 = 1;

/// A snapshot: `{"version", "time_ns", "function": {…}, "sessions": [{…}], "shards": [{…, "connections": [{…}]}]}`.
pub fn snapshot(snapshot: &Snapshot) -> Value {
    let mut function = Map::new();
    let mut sessions: Vec<Map<String, Value>> = Vec::new();
    let mut shards: Vec<Map<String, Value>> = Vec::new();
    let mut connections: Vec<Vec<Map<String, Value>>> = Vec::new();
    snapshot.walk(&mut |node, group, set| {
        let place = match (node, group) {
            (Node::Function(stats), _) => {
                function.insert("address".into(), stats.address.clone().into());
                function.insert("firmware".into(), stats.firmware.clone().into());
                &mut function
            }
            (Node::Session(stats), Group::State) => {
                let what = [("session".into(), stats.session.into()), ("phase".into(), stats.phase.into())];
                sessions.push(Map::from_iter(what));
                sessions.last_mut().expect("pushed")
            }
            (Node::Session(_), _) => sessions.last_mut().expect("its first set is its state"),
            (Node::Shard(stats), Group::State) => {
                connections.push(Vec::new());
                shards.push(Map::from_iter([("shard".into(), stats.shard.into())]));
                shards.last_mut().expect("pushed")
            }
            (Node::Shard(_), _) => shards.last_mut().expect("its first set is its state"),
            (Node::Connection(_, stats), Group::State) => {
                let of_shard = connections.last_mut().expect("its shard came first");
                of_shard.push(connection(stats));
                of_shard.last_mut().expect("pushed")
            }
            (Node::Connection(..), _) => {
                let of_shard = connections.last_mut().expect("its shard came first");
                of_shard.last_mut().expect("its first set is its state")
            }
        };
        place.insert(group.name().into(), numbers(set));
    });
    for (shard, connections) in shards.iter_mut().zip(connections) {
        shard.insert("connections".into(), connections.into());
    }
    json!({
        "version": VERSION,
        "time_ns": snapshot.at.as_nanos() as u64,
        "function": function,
        "sessions": sessions,
        "shards": shards,
    })
}

fn connection(stats: &ConnectionStats) -> Map<String, Value> {
    let (role, queue_id) = match stats.role {
        Role::Admin => ("admin", 0),
        Role::Io(id) => ("io", id),
    };
    let what = json!({
        "connection": stats.connection,
        "role": role,
        "queue_id": queue_id,
        "local": stats.local.to_string(),
        "remote": stats.remote.to_string(),
        "tcp_state": stats.state,
        "offload_queue": stats.offload_queue,
    });
    match what {
        Value::Object(what) => what,
        _ => Map::new(),
    }
}

/// A set: a number for each name; for a family by reason, an object with a number for each.
fn numbers(set: &dyn Readings) -> Value {
    let mut numbers = Map::new();
    set.read(&mut |reading| match reading.reason {
        None => _ = numbers.insert(reading.family.name.into(), reading.value.into()),
        Some((reason, _)) => {
            let family = numbers.entry(reading.family.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(family) = family {
                family.insert(reason.into(), reading.value.into());
            }
        }
    });
    Value::Object(numbers)
}

/// An event: `{"sequence", "time_ns", "shard", "connection", "event", …}` and the fields of its kind.
pub fn event(shard: u32, event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("sequence".into(), event.sequence.into());
    object.insert("time_ns".into(), (event.at.as_nanos() as u64).into());
    object.insert("shard".into(), shard.into());
    object.insert("connection".into(), event.connection.into());
    object.insert("event".into(), event.what.name().into());
    let mut details = Map::new();
    event.what.fields(&mut |name, value| {
        let value = match value {
            FieldValue::Number(n) => Value::from(n),
            FieldValue::Text(text) => Value::from(text),
        };
        details.insert(name.into(), value);
    });
    object.insert("details".into(), Value::Object(details));
    Value::Object(object)
}

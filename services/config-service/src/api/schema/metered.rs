//! The representation of a value that the validator reads: every look at it is paid for from a budget.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::HashSet,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    ops::ControlFlow,
    panic::resume_unwind,
};

use jsonschema::{
    JsonType, Keyword, ValidationError,
    json::{Array, Json as Representation, Node, NodeIdentity, Object, SerdeJson},
};
use serde_json::{Map, Number, Value as Json, json};

/// A keyword that each subschema has when it is compiled, so that applying the subschema is paid for.
pub(super) const METER: &str = "tagged-config:meter";
/// The budget for finding out whether a value is valid. A step takes up to 4 ns of a release build, typically less than 1 ns,
/// measured with schemas and values made to be slow.
const MAX_STEPS: u64 = 500_000_000;
/// The budget for errors, in bytes.
const MAX_ERROR_BYTES: u64 = 16 * 1024 * 1024;
/// An error without its paths and copies, in bytes.
const ERROR_BYTES: u64 = 512;
/// An index in a pointer, with its slash, in bytes.
const INDEX_BYTES: usize = 8;
/// Steps of a look at a part of a value, with the keywords on the way there.
const LOOK: u64 = 4;
/// Steps to divide a number by another, which may have 300 digits each.
const DIVISION: u64 = 500;
/// Steps to hash a value and store the hash, for each step of its comparison.
const HASHING: u64 = 8;
/// Bytes that are compared or counted in one step.
const BYTES_PER_STEP: usize = 32;
/// Bytes of a compiled regular expression that one byte of text passes in a step, in the worst case.
const PATTERN_BYTES_PER_STEP: usize = 32;

const _: () = assert!(
    cfg!(panic = "unwind"),
    "a check whose budget is spent ends by unwinding"
);

/// The representation of values in a check.
#[derive(Debug)]
pub(super) enum Metered {}

/// The budget of one run of the validator.
///
/// JSON Schema bounds no work: a subschema applies to a part of a value once for each way that leads there, and the ways
/// multiply with each level of the value. Hence each application of a subschema takes steps, and so does each part that is
/// read, each text that is matched, each comparison and each hash. Every loop of the validator over a value or over the ways
/// to a subschema takes steps, so that the budget bounds the time. A text that is matched takes steps by its length times the
/// size of the compiled regular expression, the worst case of an engine that does not backtrack.
///
/// Memory is bounded by that of errors, since the validator builds them all, with their paths, and many more for the branches
/// of `anyOf`.
///
/// The validator has no other way out than to unwind, without a message of the panic hook. [`super::bounded`] stops that.
pub(super) struct Meter {
    steps: Cell<u64>,
    error_bytes: Cell<u64>,
    costs: Costs,
}

/// What a schema makes a look at a value cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Costs {
    chain: usize,
    /// Steps to match a byte of a string against the largest regular expression.
    string_byte: u64,
    /// Steps to match a byte of a property's name against all of them.
    name_byte: u64,
    /// Steps to read a number.
    number: u64,
    /// The longest pointer to a subschema that applies others, in bytes.
    path: usize,
    /// The largest part of the schema that an error may copy, in bytes.
    copy: usize,
    /// Whether errors list the names of properties that are not allowed.
    lists_names: bool,
}

/// The budget is spent.
pub(super) struct Exhausted;

/// A part of a value.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    value: &'a Json,
    /// Absent for a string that the validator makes by itself.
    meter: Option<&'a Meter>,
    /// About the length of the pointer to it, in bytes.
    pointer: usize,
    /// How deep it is in the value.
    level: u32,
}

/// An object.
pub(super) struct Members<'a> {
    members: &'a Map<String, Json>,
    part: Part<'a>,
}

/// The members of an object.
pub(super) struct MembersIter<'a> {
    members: serde_json::map::Iter<'a>,
    part: Part<'a>,
}

/// An array.
pub(super) struct Items<'a> {
    items: &'a [Json],
    part: Part<'a>,
}

/// The items of an array.
pub(super) struct ItemsIter<'a> {
    items: std::slice::Iter<'a, Json>,
    part: Part<'a>,
}

/// An item that is hashed and compared as JSON Schema defines it: numbers are equal if their values are.
struct Item<'a> {
    value: &'a Json,
    part: Part<'a>,
    keys: &'a RandomState,
}

/// What [`METER`] compiles to: it accepts everything, and takes the steps of its subschema.
pub(super) struct Step(u64);

/// The schema `false`, but metered.
pub(super) fn metered_false() -> Json {
    json!({ "not": { METER: false } })
}

/// Whether a schema is the one that [`metered_false`] does not allow.
pub(super) fn is_false(schema: &Json) -> bool {
    schema.get(METER) == Some(&Json::Bool(false))
}

// === impl Meter ===

impl Meter {
    /// The budget for finding out whether a value is valid.
    pub(super) fn new(costs: Costs) -> Self {
        Self::with_steps(MAX_STEPS, costs)
    }

    /// The budget for collecting errors, for which the validator runs most keywords twice.
    pub(super) fn for_errors(costs: Costs) -> Self {
        Self::with_steps(2 * MAX_STEPS, costs)
    }

    fn with_steps(steps: u64, costs: Costs) -> Self {
        Self {
            steps: Cell::new(steps),
            error_bytes: Cell::new(MAX_ERROR_BYTES),
            costs,
        }
    }
}

fn take(budget: &Cell<u64>, amount: u64) {
    match budget.get().checked_sub(amount) {
        Some(left) => budget.set(left),
        None => resume_unwind(Box::new(Exhausted)),
    }
}

/// Steps to compare or count bytes.
fn steps(bytes: usize) -> u64 {
    (bytes / BYTES_PER_STEP) as u64
}

/// Steps to compare a value with an equal one. Takes as long to compute.
fn weight(value: &Json) -> u64 {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 1,
        Json::String(text) => 1 + steps(text.len()),
        Json::Array(items) => items.iter().fold(1, |sum, item| sum + weight(item)),
        Json::Object(members) => members.iter().fold(1, |sum, (name, member)| {
            sum + 1 + steps(name.len()) + weight(member)
        }),
    }
}

/// About the memory of a value, in bytes.
fn memory(value: &Json) -> usize {
    /// A value and its place in a list or map.
    const PLACE: usize = 64;
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => PLACE,
        Json::String(text) => PLACE + text.len(),
        Json::Array(items) => items.iter().fold(PLACE, |sum, item| sum + memory(item)),
        Json::Object(members) => members.iter().fold(PLACE, |sum, (name, member)| {
            sum + PLACE + name.len() + memory(member)
        }),
    }
}

/// The memory of a list of all names of an object, in bytes.
fn list_of_names(members: &Map<String, Json>) -> usize {
    /// A string without its text.
    const STRING: usize = 48;
    members.keys().map(|name| STRING + name.len()).sum()
}

// === impl Costs ===

impl Costs {
    /// The costs of a schema with this longest chain of subschemas that apply to one part of a value.
    pub(super) fn with_chain(chain: usize) -> Self {
        Self {
            chain,
            ..Self::default()
        }
    }

    /// The longest chain of subschemas that apply to one part of a value.
    pub(super) fn chain(&self) -> usize {
        self.chain
    }

    /// Adds a regular expression for strings, by its compiled size in bytes.
    pub(super) fn add_string_pattern(&mut self, size: usize) {
        let steps = (size / PATTERN_BYTES_PER_STEP) as u64;
        self.string_byte = self.string_byte.max(steps);
    }

    /// Adds a regular expression for names. One pass over an object may match those of several subschemas.
    pub(super) fn add_name_pattern(&mut self, size: usize) {
        self.name_byte += (size / PATTERN_BYTES_PER_STEP) as u64;
    }

    /// Adds `multipleOf`.
    pub(super) fn add_division(&mut self) {
        self.number = DIVISION;
    }

    /// Adds a subschema that applies others, by the length of its pointer in bytes.
    pub(super) fn add_path(&mut self, bytes: usize) {
        self.path = self.path.max(bytes);
    }

    /// Adds a keyword whose errors list names of properties.
    pub(super) fn add_names(&mut self) {
        self.lists_names = true;
    }

    /// Adds a part of the schema that errors copy.
    pub(super) fn add_copy(&mut self, part: &Json) {
        self.copy = self.copy.max(memory(part));
    }
}

// === impl Metered ===

impl Representation for Metered {
    type Node<'a> = Part<'a>;
    type PreparedKey = String;
    type StringBuffer = Json;

    const KEYS_PER_LOOKUP: usize = SerdeJson::KEYS_PER_LOOKUP;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Json, string: &str, f: impl FnOnce(Part<'_>) -> T) -> T {
        *buffer = Json::String(string.to_owned());
        f(Part {
            value: buffer,
            meter: None,
            pointer: 0,
            level: 0,
        })
    }
}

// === impl Part ===

impl<'a> Part<'a> {
    /// A whole value.
    pub(super) fn root(value: &'a Json, meter: &'a Meter) -> Self {
        Self {
            value,
            meter: Some(meter),
            pointer: 0,
            level: 0,
        }
    }

    fn spend(&self, steps: u64) {
        if let Some(meter) = self.meter {
            take(&meter.steps, steps);
        }
    }

    fn costs(&self) -> Costs {
        self.meter.map(|meter| meter.costs).unwrap_or_default()
    }

    fn look(&self) -> &'a Json {
        self.spend(LOOK);
        self.value
    }

    /// A part of this one, whose pointer is longer by `segment` bytes.
    fn child(&self, value: &'a Json, segment: usize) -> Self {
        self.spend(LOOK);
        Self {
            value,
            meter: self.meter,
            pointer: self.pointer + segment,
            level: self.level + 1,
        }
    }

    /// The name of a member as a string. Its errors have the pointer of this object.
    fn name<'n>(&'n self, name: &'n Json) -> Part<'n> {
        self.spend(LOOK);
        Part {
            value: name,
            ..*self
        }
    }

    /// The string, after paying for a pass over it.
    fn look_at_text(&self) -> &'a Json {
        let length = self.value.as_str().map_or(0, str::len);
        self.spend(LOOK + steps(length));
        self.value
    }
}

impl<'a> Node<'a, Metered> for Part<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        let members = self.look().as_object()?;
        Some(Members {
            members,
            part: *self,
        })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        let items = self.look().as_array()?;
        Some(Items { items, part: *self })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.look_at_text().as_str()?;
        self.spend(self.costs().string_byte * text.len() as u64);
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        let number = self.look().as_number()?;
        self.spend(self.costs().number);
        Some(number)
    }

    fn as_boolean(&self) -> Option<bool> {
        self.look().as_bool()
    }

    fn is_null(&self) -> bool {
        self.look().is_null()
    }

    fn is_number(&self) -> bool {
        self.look().is_number()
    }

    fn json_type(&self) -> JsonType {
        Node::<SerdeJson>::json_type(&self.look())
    }

    fn string_length(&self) -> Option<u64> {
        Node::<SerdeJson>::string_length(&self.look_at_text())
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        Node::<SerdeJson>::string_length_within(&self.look_at_text(), min, max)
    }

    fn equals_value(&self, expected: &Json) -> bool {
        let may_equal = match (self.look(), expected) {
            (Json::String(own), Json::String(expected)) => own.len() == expected.len(),
            (Json::Array(own), Json::Array(expected)) => own.len() == expected.len(),
            (Json::Object(own), Json::Object(expected)) => own.len() == expected.len(),
            (own, expected) => std::mem::discriminant(own) == std::mem::discriminant(expected),
        };
        if may_equal {
            self.spend(weight(expected));
        }
        may_equal && Node::<SerdeJson>::equals_value(&self.value, expected)
    }

    /// Called for errors only. They hold `null` for what they are about: the validator would copy it for each error.
    fn to_value(&self) -> Cow<'a, Json> {
        static HIDDEN: Json = Json::Null;
        if let Some(meter) = self.meter {
            let costs = meter.costs;
            let level = self.level as usize + 1;
            let paths = 2 * self.pointer + level * costs.chain * costs.path;
            let names = match self.value {
                Json::Object(members) if costs.lists_names => list_of_names(members),
                _ => 0,
            };
            let bytes = ERROR_BYTES + (paths + costs.copy + names) as u64;
            take(&meter.error_bytes, bytes);
        }
        Cow::Borrowed(&HIDDEN)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Node::<SerdeJson>::identity(&self.look())
    }
}

// === impl Members ===

impl<'a> Object<'a, Metered> for Members<'a> {
    type Node = Part<'a>;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        // The validator may reserve memory for as many.
        self.part.spend(steps(self.members.len()));
        self.members.len()
    }

    fn get(&self, key: &String) -> Option<Part<'a>> {
        self.part.spend(LOOK + steps(key.len()));
        let member = Object::<SerdeJson>::get(&self.members, key)?;
        Some(self.part.child(member, key.len() + 1))
    }

    fn members(&self) -> MembersIter<'a> {
        self.part.spend(LOOK);
        MembersIter {
            members: self.members.iter(),
            part: self.part,
        }
    }

    fn try_for_each_name_node<B>(
        &self,
        buffer: &mut Json,
        mut f: impl FnMut(Part<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for name in self.members.keys() {
            *buffer = Json::String(name.clone());
            f(self.part.name(buffer))?;
        }
        ControlFlow::Continue(())
    }
}

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, member) = self.members.next()?;
        let matching = self.part.costs().name_byte * name.len() as u64;
        self.part.spend(matching + steps(name.len()));
        Some((name, self.part.child(member, name.len() + 1)))
    }
}

// === impl Items ===

impl<'a> Array<'a, Metered> for Items<'a> {
    type Node = Part<'a>;
    type ElementsIter = ItemsIter<'a>;

    fn len(&self) -> usize {
        self.part.spend(steps(self.items.len()));
        self.items.len()
    }

    fn elements(&self) -> ItemsIter<'a> {
        self.part.spend(LOOK);
        ItemsIter {
            items: self.items.iter(),
            part: self.part,
        }
    }

    /// Hashes all items and compares those of one hash. Each comparison takes steps, since many large numbers can be made to
    /// share a hash.
    #[expect(
        clippy::mutable_key_type,
        reason = "neither hash nor equality of an item reads the budget"
    )]
    fn is_unique(&self) -> bool {
        let weight = self.items.iter().map(weight).sum::<u64>();
        self.part.spend(weight * HASHING);
        let keys = RandomState::new();
        let mut seen = HashSet::with_capacity(self.items.len());
        self.items.iter().all(|value| {
            seen.insert(Item {
                value,
                part: self.part,
                keys: &keys,
            })
        })
    }
}

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let item = self.items.next()?;
        Some(self.part.child(item, INDEX_BYTES))
    }
}

// === impl Item ===

impl<'a> Item<'a> {
    fn inner(&self, value: &'a Json) -> Self {
        Self { value, ..*self }
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.part.spend(weight(self.value));
        Node::<SerdeJson>::equals_value(&self.value, other.value)
    }
}

impl Eq for Item<'_> {}

impl Hash for Item<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.value {
            Json::Null => state.write_u8(0),
            Json::Bool(value) => value.hash(state),
            Json::Number(number) => {
                // Equal numbers round to the same float. Adding zero turns the negative zero into the positive one.
                let float = number.as_f64().unwrap_or_default() + 0.0;
                float.to_bits().hash(state);
            }
            Json::String(text) => text.hash(state),
            Json::Array(items) => {
                state.write_usize(items.len());
                for item in items {
                    self.inner(item).hash(state);
                }
            }
            // The order of members does not count.
            Json::Object(members) => {
                let sum = members.iter().fold(0_u64, |sum, (name, member)| {
                    let mut hasher = self.keys.build_hasher();
                    name.hash(&mut hasher);
                    self.inner(member).hash(&mut hasher);
                    sum.wrapping_add(hasher.finish())
                });
                state.write_u64(sum);
            }
        }
    }
}

// === impl Step ===

impl Step {
    /// A step for each keyword of a subschema, and one for each element of its value.
    pub(super) fn new(subschema: &Map<String, Json>) -> Self {
        let elements = |value: &Json| match value {
            Json::Array(items) => items.len(),
            Json::Object(members) => members.len(),
            _ => 0,
        };
        let steps: usize = subschema.values().map(|value| 1 + elements(value)).sum();
        Self(steps as u64)
    }
}

impl<'i> Keyword<'i, Metered> for Step {
    fn validate(&self, instance: Part<'i>) -> Result<(), ValidationError<'i>> {
        instance.spend(self.0);
        Ok(())
    }

    fn is_valid(&self, instance: Part<'i>) -> bool {
        instance.spend(self.0);
        true
    }
}

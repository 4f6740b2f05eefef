//! The subschemas of a schema: what their references lead to, and which of them apply to the same part of a value.

use std::{
    collections::{HashMap, HashSet},
    ptr::from_ref,
};

use jsonschema::{Uri, uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value as Json, json};

use super::{
    DIALECT, MAX_APPLICATIONS, MAX_CHAIN, MAX_PATHS_BYTES, MAX_PATTERNS, MAX_PATTERNS_SIZE,
    MAX_SUBSCHEMAS, SchemaError,
    metered::{Costs, METER, metered_false},
    violation::{escape, quote, shorten},
};

/// The base of a schema without `$id`.
const DEFAULT_BASE: &str = "json-schema:///";
/// The keywords that hold subschemas: those of draft 2020-12, and those of earlier drafts that the validator still applies.
const HOLDERS: [(&str, Holds, AppliesTo); 22] = [
    ("$defs", Holds::Named, AppliesTo::Nothing),
    ("additionalItems", Holds::One, AppliesTo::Parts),
    ("additionalProperties", Holds::One, AppliesTo::Parts),
    ("allOf", Holds::List, AppliesTo::Same),
    ("anyOf", Holds::List, AppliesTo::Same),
    ("contains", Holds::One, AppliesTo::Parts),
    ("contentSchema", Holds::One, AppliesTo::Nothing),
    ("definitions", Holds::Named, AppliesTo::Nothing),
    ("dependencies", Holds::Named, AppliesTo::Same),
    ("dependentSchemas", Holds::Named, AppliesTo::Same),
    ("else", Holds::One, AppliesTo::Same),
    ("if", Holds::One, AppliesTo::Same),
    ("items", Holds::One, AppliesTo::Parts),
    ("not", Holds::One, AppliesTo::Same),
    ("oneOf", Holds::List, AppliesTo::Same),
    ("patternProperties", Holds::Named, AppliesTo::Parts),
    ("prefixItems", Holds::List, AppliesTo::Parts),
    ("properties", Holds::Named, AppliesTo::Parts),
    ("propertyNames", Holds::One, AppliesTo::Parts),
    ("then", Holds::One, AppliesTo::Same),
    ("unevaluatedItems", Holds::One, AppliesTo::Parts),
    ("unevaluatedProperties", Holds::One, AppliesTo::Parts),
];
/// The keywords that refer to a schema, which applies to the same part of the value.
const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];
/// The keywords that name a subschema.
const NAMES: [&str; 3] = ["$id", "$anchor", "$dynamicAnchor"];
/// The keywords of which an error copies a part.
const COPIED: [&str; 5] = [
    "dependencies",
    "dependentRequired",
    "not",
    "pattern",
    "required",
];
/// The keywords whose errors list names of properties.
const LISTS_NAMES: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
/// The longest `$id`, when it is resolved, in bytes: each subschema below it stores it.
const MAX_BASE_BYTES: usize = 1024;
/// The characters of a pointer that are encoded in a fragment.
const FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'~')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'$');

/// How a keyword holds subschemas.
#[derive(Clone, Copy)]
enum Holds {
    One,
    List,
    Named,
}

/// What the subschemas of a keyword apply to.
#[derive(Clone, Copy, PartialEq)]
enum AppliesTo {
    /// What their parent applies to.
    Same,
    /// Its members, items or names.
    Parts,
    /// Nothing, unless something refers to them.
    Nothing,
}

/// The subschemas of a schema, without reference cycles within one part of a value.
pub(super) struct Survey<'s> {
    /// The whole schema is the first.
    subschemas: Vec<Subschema<'s>>,
    /// Their indices, by their addresses in the document.
    places: HashMap<*const Json, usize>,
    /// The length of the pointers to all keywords, in bytes.
    paths: usize,
    /// The longest chain of subschemas that apply to one part of a value.
    chain: usize,
}

struct Subschema<'s> {
    schema: &'s Json,
    /// The base of relative references in it.
    base: Uri<String>,
    /// The pointer to it.
    pointer: String,
    /// Those that apply to the same part of a value.
    same: Vec<usize>,
    /// The targets of [`REFERENCES`].
    targets: [Option<usize>; 2],
}

/// The names that references use.
#[derive(Default)]
struct Named {
    /// The whole schema and the subschemas with an `$id`, by their base.
    resources: HashMap<String, usize>,
    /// The subschemas with an anchor, by base and name.
    anchors: HashMap<(String, String), usize>,
    /// The names of dynamic anchors.
    dynamic: HashSet<String>,
    /// A reference that uses one.
    by_dynamic: Option<String>,
    /// Whether a subschema below the root has an `$id`.
    parts: bool,
}

/// Refuses a `$schema` other than the dialect that is supported.
pub(super) fn check_dialect(schema: &Json) -> Result<(), SchemaError> {
    match schema.get("$schema") {
        None => Ok(()),
        Some(Json::String(found)) if found.strip_suffix('#').unwrap_or(found) == DIALECT => Ok(()),
        Some(found) => Err(SchemaError::Dialect {
            found: quote(&found.to_string()),
        }),
    }
}

// === impl Survey ===

impl<'s> Survey<'s> {
    /// Finds all subschemas: those that keywords hold and those that references lead to.
    pub(super) fn of(schema: &'s Json) -> Result<Self, SchemaError> {
        let base = uri::from_str(DEFAULT_BASE).map_err(|_| SchemaError::Unavailable)?;
        let mut survey = Self {
            subschemas: Vec::new(),
            places: HashMap::new(),
            paths: 0,
            chain: 0,
        };
        let mut named = Named::default();
        let root = survey.add(schema, &base, String::new())?;
        named.resources.insert(base.to_string(), root);
        survey.hold(root, &mut named)?;
        // A reference may add subschemas: it may lead to a place where no keyword holds one.
        let mut place = root;
        while place < survey.subschemas.len() {
            survey.refer(place, &mut named)?;
            place += 1;
        }
        named.check_dynamic()?;
        survey.check_data()?;
        survey.chain = survey.longest_chain()?;
        Ok(survey)
    }

    fn add(
        &mut self,
        schema: &'s Json,
        base: &Uri<String>,
        pointer: String,
    ) -> Result<usize, SchemaError> {
        let place = self.subschemas.len();
        if place == MAX_SUBSCHEMAS {
            return Err(SchemaError::TooManySubschemas);
        }
        // Each keyword is compiled with its own.
        let keywords = schema.as_object().map_or(0, Map::len);
        self.take_path(pointer.len() * (keywords + 2))?;
        self.places.insert(from_ref(schema), place);
        self.subschemas.push(Subschema {
            schema,
            base: base.clone(),
            pointer,
            same: Vec::new(),
            targets: [None; 2],
        });
        Ok(place)
    }

    fn take_path(&mut self, bytes: usize) -> Result<(), SchemaError> {
        self.paths += bytes;
        if self.paths > MAX_PATHS_BYTES {
            return Err(SchemaError::LongPaths);
        }
        Ok(())
    }

    /// Adds all subschemas that keywords hold within a new one, with their names.
    fn hold(&mut self, place: usize, named: &mut Named) -> Result<(), SchemaError> {
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            let schema = self.subschemas[place].schema;
            check_dialect(schema)?;
            let Json::Object(keywords) = schema else {
                continue;
            };
            if let Some(id) = keywords.get("$id").and_then(Json::as_str) {
                self.subschemas[place].base =
                    named.resource(id, &self.subschemas[place].base, place)?;
            }
            let base = self.subschemas[place].base.clone();
            for keyword in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = keywords.get(keyword).and_then(Json::as_str) {
                    named.anchor(anchor, &base, place)?;
                    if keyword == "$dynamicAnchor" {
                        named.dynamic.insert(anchor.to_owned());
                    }
                }
            }
            for (child, segment, applies_to) in children(keywords) {
                let known = self.places.get(&from_ref(child)).copied();
                let child = if let Some(known) = known {
                    known
                } else {
                    let pointer = format!("{}{segment}", self.subschemas[place].pointer);
                    let new = self.add(child, &base, pointer)?;
                    open.push(new);
                    new
                };
                if applies_to == AppliesTo::Same {
                    self.subschemas[place].same.push(child);
                }
            }
        }
        Ok(())
    }

    /// Resolves the references of a subschema.
    fn refer(&mut self, place: usize, named: &mut Named) -> Result<(), SchemaError> {
        for (index, keyword) in REFERENCES.into_iter().enumerate() {
            let subschema = &self.subschemas[place];
            let Some(reference) = subschema.schema.get(keyword).and_then(Json::as_str) else {
                continue;
            };
            let target = self.resolve(reference, &subschema.base.clone(), named)?;
            self.take_path(self.subschemas[target].pointer.len())?;
            self.subschemas[place].targets[index] = Some(target);
            self.subschemas[place].same.push(target);
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        reference: &str,
        base: &Uri<String>,
        named: &mut Named,
    ) -> Result<usize, SchemaError> {
        let dead = || SchemaError::DeadReference {
            reference: quote(reference),
        };
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = match document {
            "" => base.clone(),
            document => uri::resolve_against(&base.borrow(), document).map_err(|_| dead())?,
        };
        let resource =
            *named
                .resources
                .get(base.as_str())
                .ok_or_else(|| SchemaError::RemoteReference {
                    reference: quote(reference),
                })?;
        let fragment = percent_decode_str(fragment)
            .decode_utf8()
            .map_err(|_| dead())?;
        let Some(path) = fragment.strip_prefix('/') else {
            if fragment.is_empty() {
                return Ok(resource);
            }
            if named.dynamic.contains(&*fragment) {
                named.by_dynamic.get_or_insert_with(|| reference.to_owned());
            }
            let anchor = (base.to_string(), fragment.into_owned());
            return named.anchors.get(&anchor).copied().ok_or_else(dead);
        };
        let start = &self.subschemas[resource];
        let (mut schema, mut base, mut pointer) =
            (start.schema, start.base.clone(), start.pointer.clone());
        for segment in path.split('/') {
            schema = schema.pointer(&format!("/{segment}")).ok_or_else(dead)?;
            pointer.push('/');
            pointer.push_str(&escape(&segment.replace("~1", "/").replace("~0", "~")));
            if let Some(known) = self.places.get(&from_ref(schema)) {
                base = self.subschemas[*known].base.clone();
            }
        }
        if let Some(known) = self.places.get(&from_ref(schema)) {
            return Ok(*known);
        }
        if !schema.is_object() && !schema.is_boolean() {
            return Err(dead());
        }
        let new = self.add(schema, &base, pointer)?;
        self.hold(new, named)?;
        Ok(new)
    }

    /// Refuses references into constants: a part of one would be changed if it was compiled as a subschema.
    fn check_data(&self) -> Result<(), SchemaError> {
        let data = self.subschemas.iter().flat_map(|one| {
            let values = ["const", "enum"].map(|keyword| one.schema.get(keyword));
            values.into_iter().flatten()
        });
        for value in data {
            if let Some(place) = self.within(value) {
                return Err(SchemaError::DeadReference {
                    reference: quote(&format!("#{}", self.subschemas[place].pointer)),
                });
            }
        }
        Ok(())
    }

    fn within(&self, value: &Json) -> Option<usize> {
        let own = self.places.get(&from_ref(value)).copied();
        own.or_else(|| match value {
            Json::Array(items) => items.iter().find_map(|item| self.within(item)),
            Json::Object(members) => members.values().find_map(|member| self.within(member)),
            _ => None,
        })
    }

    /// Refuses reference cycles within one part of a value, and too many subschemas for it.
    fn longest_chain(&self) -> Result<usize, SchemaError> {
        let pointer_to = |place: usize| shorten(&self.subschemas[place].pointer);
        let mut parents = vec![Vec::new(); self.subschemas.len()];
        let mut open: Vec<_> = self.subschemas.iter().map(|one| one.same.len()).collect();
        for (place, subschema) in self.subschemas.iter().enumerate() {
            for child in &subschema.same {
                parents[*child].push(place);
            }
        }
        // From the subschemas that apply no others to those that apply them.
        let mut ready: Vec<_> = (0..open.len()).filter(|place| open[*place] == 0).collect();
        let mut sizes = vec![(1_u64, 1_usize); open.len()];
        let mut longest = 1;
        while let Some(place) = ready.pop() {
            let (applications, chain) = sizes[place];
            if applications > MAX_APPLICATIONS || chain > MAX_CHAIN {
                return Err(SchemaError::TooManyApplications {
                    pointer: pointer_to(place),
                });
            }
            longest = longest.max(chain);
            for parent in &parents[place] {
                let size = &mut sizes[*parent];
                *size = (size.0.saturating_add(applications), size.1.max(chain + 1));
                open[*parent] -= 1;
                if open[*parent] == 0 {
                    ready.push(*parent);
                }
            }
        }
        match open.iter().position(|children| *children > 0) {
            Some(place) => Err(SchemaError::Cycle {
                pointer: pointer_to(place),
            }),
            None => Ok(longest),
        }
    }

    /// What the schema makes a look at a value cost. `size_of` returns the compiled size of a regular expression, in bytes.
    pub(super) fn costs(
        &self,
        size_of: impl Fn(&str) -> Result<usize, SchemaError>,
    ) -> Result<Costs, SchemaError> {
        let mut costs = Costs::with_chain(self.chain);
        let (mut sizes, mut total) = (HashMap::new(), 0);
        let mut known = |pattern: &'s str| {
            if let Some(size) = sizes.get(pattern) {
                return Ok(*size);
            }
            let size = size_of(pattern)?;
            sizes.insert(pattern, size);
            total += size;
            if sizes.len() > MAX_PATTERNS || total > MAX_PATTERNS_SIZE {
                return Err(SchemaError::TooManyPatterns);
            }
            Ok(size)
        };
        for Subschema {
            schema,
            pointer,
            same,
            ..
        } in &self.subschemas
        {
            if let Some(pattern) = schema.get("pattern").and_then(Json::as_str) {
                costs.add_string_pattern(known(pattern)?);
            }
            let patterns = schema.get("patternProperties").and_then(Json::as_object);
            for pattern in patterns.into_iter().flat_map(Map::keys) {
                costs.add_name_pattern(known(pattern)?);
            }
            for part in COPIED.iter().filter_map(|keyword| schema.get(*keyword)) {
                costs.add_copy(part);
            }
            if LISTS_NAMES
                .iter()
                .any(|keyword| schema.get(*keyword).is_some())
            {
                costs.add_names();
            }
            if schema.get("multipleOf").is_some() {
                costs.add_division();
            }
            if !same.is_empty() {
                costs.add_path(pointer.len());
            }
        }
        Ok(costs)
    }

    /// The schema to compile. Each subschema has [`METER`]; a boolean has no room for it and is replaced where it applies to the
    /// same part of a value as its parent. References are pointers, and names are left out: the validator would compile a
    /// subschema once for each sequence of `$id`s on the way to it.
    pub(super) fn to_compile(&self) -> Json {
        let targets = self.subschemas.iter().flat_map(|one| &one.same);
        let targets = targets.map(|place| from_ref(self.subschemas[*place].schema));
        let whole = self.subschemas.first().map(|root| root.schema);
        whole.map_or(Json::Null, |schema| {
            self.rebuild(schema, &targets.collect())
        })
    }

    fn rebuild(&self, value: &Json, same: &HashSet<*const Json>) -> Json {
        match value {
            Json::Bool(false) if same.contains(&from_ref(value)) => metered_false(),
            Json::Bool(true) if same.contains(&from_ref(value)) => json!({ METER: true }),
            Json::Array(items) => items.iter().map(|item| self.rebuild(item, same)).collect(),
            Json::Object(members) => {
                let rebuilt = members
                    .iter()
                    .map(|(name, member)| (name.clone(), self.rebuild(member, same)));
                let mut rebuilt: Map<_, _> = rebuilt.collect();
                if let Some(place) = self.places.get(&from_ref(value)) {
                    self.meter(&mut rebuilt, *place);
                }
                Json::Object(rebuilt)
            }
            other => other.clone(),
        }
    }

    fn meter(&self, keywords: &mut Map<String, Json>, place: usize) {
        keywords.retain(|keyword, _| !NAMES.contains(&keyword.as_str()));
        let targets = REFERENCES.iter().zip(self.subschemas[place].targets);
        for (keyword, target) in targets {
            if let Some(target) = target {
                let pointer = &self.subschemas[target].pointer;
                let fragment = format!("#{}", utf8_percent_encode(pointer, FRAGMENT));
                keywords.insert((*keyword).to_owned(), Json::String(fragment));
            }
        }
        keywords.insert(METER.to_owned(), Json::Bool(true));
    }
}

// === impl Named ===

impl Named {
    /// Adds a subschema with an `$id` and returns its base.
    fn resource(
        &mut self,
        id: &str,
        outer: &Uri<String>,
        place: usize,
    ) -> Result<Uri<String>, SchemaError> {
        let refuse = |reason| SchemaError::Name {
            name: quote(id),
            reason,
        };
        let base = uri::resolve_against(&outer.borrow(), id.strip_suffix('#').unwrap_or(id))
            .map_err(|_| refuse("it is no URI reference that can be resolved"))?;
        if base.as_str().len() > MAX_BASE_BYTES {
            return Err(refuse("it is too long"));
        }
        if self.resources.insert(base.to_string(), place).is_some() {
            return Err(refuse("two subschemas have it"));
        }
        self.parts |= place > 0;
        Ok(base)
    }

    /// Refuses references by a dynamic anchor if there are several resources: the target would depend on the way to them.
    fn check_dynamic(&mut self) -> Result<(), SchemaError> {
        match self.by_dynamic.take() {
            Some(reference) if self.parts => Err(SchemaError::DynamicReference {
                reference: quote(&reference),
            }),
            _ => Ok(()),
        }
    }

    fn anchor(
        &mut self,
        anchor: &str,
        base: &Uri<String>,
        place: usize,
    ) -> Result<(), SchemaError> {
        let name = (base.to_string(), anchor.to_owned());
        match self.anchors.insert(name, place) {
            Some(other) if other != place => Err(SchemaError::Name {
                name: quote(anchor),
                reason: "two subschemas have it",
            }),
            _ => Ok(()),
        }
    }
}

/// The subschemas that keywords hold, with the pointers from their parent.
fn children(keywords: &Map<String, Json>) -> impl Iterator<Item = (&Json, String, AppliesTo)> + '_ {
    let held = HOLDERS.iter().filter_map(|(keyword, holds, applies_to)| {
        let value = keywords.get(*keyword)?;
        let held: Vec<_> = match (holds, value) {
            (Holds::One, schema) => vec![(schema, format!("/{keyword}"))],
            (Holds::List, Json::Array(list)) => (0_usize..)
                .zip(list)
                .map(|(index, schema)| (schema, format!("/{keyword}/{index}")))
                .collect(),
            (Holds::Named, Json::Object(named)) => named
                .iter()
                .map(|(name, schema)| (schema, format!("/{keyword}/{}", escape(name))))
                .collect(),
            (Holds::List | Holds::Named, _) => Vec::new(),
        };
        Some((held, *applies_to))
    });
    held.flat_map(|(held, applies_to)| {
        held.into_iter()
            // The names of `dependencies` may also stand for lists of names.
            .filter(|(schema, _)| schema.is_object() || schema.is_boolean())
            .map(move |(schema, pointer)| (schema, pointer, applies_to))
    })
}

//! JSON, read before anybody asks what it should say.
//!
//! Types that are derived to be read say by themselves what is wrong with a text, and to print a number that should be
//! none they bring along all that it takes to print any: a twelfth of the Worker. Nor would they tell an array of the
//! values from an object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value, whose texts are as far as possible those of what it was read from.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    /// In its own order, and with all that have the same name.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
    List(Vec<Json<'a>>),
    Text(Cow<'a, str>),
    /// An integer that is not negative.
    Whole(u64),
    /// Any other number, `true`, `false` or `null`.
    Other,
}

impl<'a> Json<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// What has these names in an object, in which nothing may have another, or the same as something else.
    pub(crate) fn members<const N: usize>(self, names: [&str; N]) -> Result<[Option<Self>; N], String> {
        let Self::Object(members) = self else { return Err(format!("no object with {}", names.join(", "))) };
        let mut known = [const { None }; N];
        for (name, value) in members {
            let mut places = names.iter().zip(&mut known);
            let Some((_, place)) = places.find(|(known, _)| **known == name) else {
                return Err(format!("{name} is not known"));
            };
            if place.replace(value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(known)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

/// Takes whatever comes: of what it did not, it would have to be told.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut object = Vec::new();
        while let Some((Name(name), value)) = members.next_entry()? {
            object.push((name, value));
        }
        Ok(Json::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
}

//! How generated code finds the conversion of a field, and of what a method returns.
//!
//! By the means that `select.rs` explains: a call on references deep enough takes the first conversion that fits.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    hash::Hash,
    marker::PhantomData,
};

use super::Fields;
use crate::service::{
    grpc::Shape,
    reply::{Accepted, Created, NoContent},
};

/// Carries the types of a message's field and of the parameter that takes it to the method lookup.
#[derive(Debug)]
pub struct FieldProbe<F, P>(PhantomData<fn(F) -> P>);

impl<F, P> FieldProbe<F, P> {
    /// The type of this field.
    pub fn of(_: &F) -> Self {
        Self(PhantomData)
    }
}

macro_rules! conversion {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<P>(PhantomData<fn() -> P>);
    };
}

conversion! {
    /// Takes the field as it is.
    AsField
}
conversion! {
    /// Takes a field that has to be there.
    AsRequired
}
conversion! {
    /// Takes an optional, a repeated, or a map field into one of the same kind.
    AsLifted
}
/// Takes nothing: the call does not compile, and says what to do. It knows both types before the call, to name them.
#[derive(Debug)]
pub struct AsMisfit<F, P>(PhantomData<fn(F) -> P>);

/// First choice of `__field`, on four references: the field becomes the parameter. An empty name is the whole message.
pub trait TakesField<P> {
    /// How to take it.
    fn __field(&self) -> AsField<P> {
        AsField(PhantomData)
    }
}

impl<F, P: TryFrom<F>> TakesField<P> for &&&FieldProbe<F, P> {}

impl<P> AsField<P> {
    /// The parameter, or nothing and a mistake more.
    pub fn take<F>(self, name: &str, field: F, fields: &mut Fields) -> Option<P>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        fields.take(name, field)
    }
}

/// Second choice of `__field`, on three references: a field that may be absent, for a parameter that may not.
pub trait TakesRequired<P> {
    /// How to take it.
    fn __field(&self) -> AsRequired<P> {
        AsRequired(PhantomData)
    }
}

impl<F, P: TryFrom<F>> TakesRequired<P> for &&FieldProbe<Option<F>, P> {}

impl<P> AsRequired<P> {
    /// The parameter, or nothing and a mistake more.
    pub fn take<F>(self, name: &str, field: Option<F>, fields: &mut Fields) -> Option<P>
    where
        P: TryFrom<F, Error: Display + 'static>,
    {
        fields.required(name, field)
    }
}

/// Third choice of `__field`, on two references: both are optional, repeated, or a map, and what is inside converts.
pub trait TakesLifted<P> {
    /// How to take it.
    fn __field(&self) -> AsLifted<P> {
        AsLifted(PhantomData)
    }
}

impl<F: Lift<P>, P> TakesLifted<P> for &FieldProbe<F, P> {}

/// A field of a kind that holds others.
pub trait Lift<P> {
    /// The same kind, holding other things.
    fn lift(self, name: &str, fields: &mut Fields) -> Option<P>;
}

impl<F, Q: TryFrom<F, Error: Display + 'static>> Lift<Option<Q>> for Option<F> {
    fn lift(self, name: &str, fields: &mut Fields) -> Option<Option<Q>> {
        fields.optional(name, self)
    }
}

impl<F, Q: TryFrom<F, Error: Display + 'static>> Lift<Vec<Q>> for Vec<F> {
    fn lift(self, name: &str, fields: &mut Fields) -> Option<Vec<Q>> {
        fields.each(name, self)
    }
}

impl<K, F, Q> Lift<HashMap<K, Q>> for HashMap<K, F>
where
    K: Display + Eq + Hash,
    Q: TryFrom<F, Error: Display + 'static>,
{
    fn lift(self, name: &str, fields: &mut Fields) -> Option<HashMap<K, Q>> {
        fields.map(name, self)
    }
}

impl<K, F, Q> Lift<BTreeMap<K, Q>> for HashMap<K, F>
where
    K: Display + Ord,
    Q: TryFrom<F, Error: Display + 'static>,
{
    fn lift(self, name: &str, fields: &mut Fields) -> Option<BTreeMap<K, Q>> {
        fields.collect(name, self, |key, value| (key, value))
    }
}

impl<P> AsLifted<P> {
    /// The parameter, or nothing and a mistake more.
    pub fn take<F: Lift<P>>(self, name: &str, field: F, fields: &mut Fields) -> Option<P> {
        field.lift(name, fields)
    }
}

/// Last choice of `__field`, on one reference: leads to the error message.
pub trait TakesNothing<F, P> {
    /// How not to take it.
    fn __field(&self) -> AsMisfit<F, P> {
        AsMisfit(PhantomData)
    }
}

impl<F, P> TakesNothing<F, P> for FieldProbe<F, P> {}

impl<F, P> AsMisfit<F, P> {
    /// Nothing.
    pub fn take(self, _: &str, _: F, _: &mut Fields) -> Option<P>
    where
        P: MadeOfField<F>,
    {
        None
    }
}

/// Implemented by no type that gets here.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from the message's `{F}`",
    label = "the message holds a `{F}` for this parameter",
    note = "write `impl TryFrom<{F}> for {Self}`; its error's text is what the caller is told. From an optional or repeated \
            field take the type inside: of `Option<T>` and `Vec<T>` it is `T` that has to convert"
)]
pub trait MadeOfField<F> {}

/// Carries the types of what a method returns and of the answer's message to the method lookup.
#[derive(Debug)]
pub struct MessageProbe<T, Res>(PhantomData<fn(T) -> Res>);

impl<T, Res> MessageProbe<T, Res> {
    /// The type of this value, and the message of this method.
    pub fn of<Req>(_: &T, _: Shape<Req, Res>) -> Self {
        Self(PhantomData)
    }
}

conversion! {
    /// Makes the message of the value.
    OfValue
}
conversion! {
    /// Makes the message of what the value holds.
    OfInner
}
/// Makes nothing: the call does not compile, and says what to do. It knows both types before the call, to name them.
#[derive(Debug)]
pub struct OfNothing<T, Res>(PhantomData<fn(T) -> Res>);

/// First choice of `__message`, on three references: the value becomes the message.
pub trait BecomesMessage<Res> {
    /// How to make it.
    fn __message(&self) -> OfValue<Res> {
        OfValue(PhantomData)
    }
}

impl<T, Res: From<T>> BecomesMessage<Res> for &&MessageProbe<T, Res> {}

impl<Res> OfValue<Res> {
    /// The message.
    pub fn write<T>(self, value: T) -> Res
    where
        Res: From<T>,
    {
        value.into()
    }
}

/// Second choice of `__message`, on two references: what `Created` and `Accepted` hold becomes the message, nothing at all an
/// empty one.
pub trait HoldsMessage<Res> {
    /// How to make it.
    fn __message(&self) -> OfInner<Res> {
        OfInner(PhantomData)
    }
}

impl<T: Holds<Res>, Res> HoldsMessage<Res> for &MessageProbe<T, Res> {}

/// An answer that is more, or less, than the thing itself.
pub trait Holds<Res> {
    /// The message of the thing.
    fn unpack(self) -> Res;
}

impl<T, Res: From<T>> Holds<Res> for Created<T> {
    fn unpack(self) -> Res {
        self.value.into()
    }
}

impl<T, Res: From<T>> Holds<Res> for Accepted<T> {
    fn unpack(self) -> Res {
        self.0.into()
    }
}

impl<Res: Default> Holds<Res> for () {
    fn unpack(self) -> Res {
        Res::default()
    }
}

impl<Res: Default> Holds<Res> for NoContent {
    fn unpack(self) -> Res {
        Res::default()
    }
}

impl<Res> OfInner<Res> {
    /// The message.
    pub fn write<T: Holds<Res>>(self, value: T) -> Res {
        value.unpack()
    }
}

/// Last choice of `__message`, on one reference: leads to the error message.
pub trait BecomesNothing<T, Res> {
    /// How not to make it.
    fn __message(&self) -> OfNothing<T, Res> {
        OfNothing(PhantomData)
    }
}

impl<T, Res> BecomesNothing<T, Res> for MessageProbe<T, Res> {}

impl<T, Res: Default> OfNothing<T, Res> {
    /// Nothing.
    pub fn write(self, _: T) -> Res
    where
        Res: MadeOf<T>,
    {
        Res::default()
    }
}

/// Implemented by no type that gets here.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from `{T}`",
    label = "the rpc answers with `{Self}`",
    note = "write `impl From<{T}> for {Self}`; of `Created<T>` and `Accepted<T>` it is `T` that has to convert"
)]
pub trait MadeOf<T> {}

//! The stack machine that fills a [`Pickle`](super::Pickle)'s arena.

use std::collections::HashMap;

use super::global::Global;
use super::value::{Id, MAX_ITEMS, Reason, Value};

type Step<T> = Result<T, Reason>;

fn malformed<T>(reason: impl Into<String>) -> Step<T> {
    Err(Reason::Malformed(reason.into()))
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// Byte of the next instruction.
    pub position: usize,
    script: bool,
    pub values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at its open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8], script: bool) -> Self {
        Self {
            bytes,
            position: 0,
            script,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs one instruction; the value on top when it was the last.
    pub fn step(&mut self) -> Step<Option<Id>> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO, FRAME
            0x80 => {
                let [protocol] = self.array()?;
                if protocol > 5 {
                    return malformed(format!("pickle protocol {protocol}; expected at most 5"));
                }
            }
            0x95 => drop(self.array::<8>()?),
            b'.' => return self.pop().map(Some),

            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' => self.push(Value::Opaque)?,
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88))?,
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value))?;
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => self.long()?,
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len.into())?;
            }
            0x8c => {
                let [len] = self.array()?;
                self.text(len.into())?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.array()?);
                self.text(len)?;
            }
            // STRING, UNICODE: protocol 0, read so far that the import it leads to can be named.
            b'S' | b'V' => {
                self.line()?;
                self.push(Value::Opaque)?;
            }
            // SHORT_BINBYTES, BINBYTES
            b'C' => {
                let [len] = self.array()?;
                self.take(len.into())?;
                self.push(Value::Opaque)?;
            }
            b'B' => {
                let len = u32::from_le_bytes(self.array()?);
                self.take(len.into())?;
                self.push(Value::Opaque)?;
            }

            // MARK, POP, POP_MARK
            b'(' => {
                if self.marks.len() >= MAX_ITEMS {
                    return malformed("too many open marks");
                }
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),

            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            // EMPTY_LIST, EMPTY_SET, LIST, FROZENSET, APPEND, APPENDS, ADDITEMS
            b']' | 0x8f => self.push(Value::List(Vec::new()))?,
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }

            // BINGET, LONG_BINGET, BINPUT, LONG_BINPUT, MEMOIZE
            b'h' => {
                let [index] = self.array()?;
                self.memo_get(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memo_get(index)?;
            }
            b'q' => {
                let [index] = self.array()?;
                self.memo_put(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memo_put(index)?;
            }
            0x94 => self.memo_put(self.memo.len() as u32)?,

            // GLOBAL, STACK_GLOBAL, INST
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.import(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (self.get(module), self.get(name)) {
                    (&Value::Str(module), &Value::Str(name)) => self.import(module, name)?,
                    _ => return malformed("STACK_GLOBAL without two strings"),
                }
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(Reason::Forbidden(format!("{module}.{name}")));
            }
            // REDUCE, NEWOBJ, BUILD, BINPERSID
            b'R' => self.reduce()?,
            0x81 => self.new_object()?,
            b'b' => self.build()?,
            b'Q' => self.persistent_id()?,

            _ => {
                return malformed(format!(
                    "instruction {opcode:#04x} has no place in a state dict"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.position.checked_add(len));
        match end.and_then(|end| self.bytes.get(self.position..end)) {
            Some(bytes) => {
                self.position += bytes.len();
                Ok(bytes)
            }
            None => malformed(format!(
                "truncated: {len} bytes wanted, {} left",
                self.bytes.len() - self.position
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn utf8(bytes: &'a [u8]) -> Step<&'a str> {
        std::str::from_utf8(bytes).or_else(|_| malformed("a string is not UTF-8"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
            return malformed("truncated: a line without its end");
        };
        self.position += len + 1;
        Self::utf8(&rest[..len])
    }

    fn text(&mut self, len: u64) -> Step<()> {
        let text = Self::utf8(self.take(len)?)?;
        self.push(Value::Str(text))
    }

    /// LONG1: two's complement, little-endian. Integers beyond 64 bits are only ever seeds and the like.
    fn long(&mut self) -> Step<()> {
        let [len] = self.array()?;
        let bytes = self.take(len.into())?;
        if bytes.len() > 8 {
            return self.push(Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        if self.values.len() >= MAX_ITEMS {
            return malformed(format!("more than {MAX_ITEMS} values"));
        }
        self.values.push(value);
        self.push_id(self.values.len() as Id - 1)
    }

    fn push_id(&mut self, id: Id) -> Step<()> {
        if self.stack.len() >= MAX_ITEMS {
            return malformed(format!("more than {MAX_ITEMS} values on the stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => malformed("the stack is empty"),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => malformed("no mark on the stack"),
        }
    }

    fn top(&mut self) -> Step<&mut Value<'a>> {
        let top = self.pop()?;
        self.stack.push(top);
        match self.values.get_mut(top as usize) {
            Some(value) => Ok(value),
            None => malformed("the stack is empty"),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            _ => return malformed("append to what is not a list"),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let Value::Dict(dict) = self.top()? else {
            return malformed("items for what is not a dict");
        };
        if !items.len().is_multiple_of(2) {
            return malformed("a dict key without its value");
        }
        dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn memo_get(&mut self, index: u32) -> Step<()> {
        match self.memo.get(&index) {
            Some(&id) => self.push_id(id),
            None => malformed(format!("memo {index} was never set")),
        }
    }

    fn memo_put(&mut self, index: u32) -> Step<()> {
        if self.memo.len() >= MAX_ITEMS {
            return malformed(format!("more than {MAX_ITEMS} memo entries"));
        }
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(index, top);
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str) -> Step<()> {
        match Global::find(module, name, self.script) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Reason::Forbidden(format!("{module}.{name}"))),
        }
    }

    fn reduce(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let (&Value::Global(global), Value::Tuple(arguments)) =
            (self.get(callable), self.get(arguments))
        else {
            return malformed("a call of what is not a function");
        };
        match (global, arguments.as_slice()) {
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..])
                if matches!(self.get(storage), Value::Storage { .. }) =>
            {
                self.push(Value::Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                })
            }
            (Global::FirstArgument, &[first, ..]) => self.push_id(first),
            (Global::OrderedDict, &[]) => self.push(Value::Dict(Vec::new())),
            (Global::OrderedDict, &[pairs]) => {
                let dict = self.pairs(pairs)?;
                self.push(Value::Dict(dict))
            }
            (Global::Ignored, _) => self.push(Value::Opaque),
            _ => malformed(format!("{global:?} called with unfit arguments")),
        }
    }

    /// `[(key, value), …]`, as `OrderedDict` takes it.
    fn pairs(&self, list: Id) -> Step<Vec<(Id, Id)>> {
        let Value::List(pairs) = self.get(list) else {
            return malformed("OrderedDict of what is not a list");
        };
        let pair = |&id: &Id| match self.get(id) {
            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => malformed("OrderedDict of what are not pairs"),
        };
        pairs.iter().map(pair).collect()
    }

    fn new_object(&mut self) -> Step<()> {
        self.pop()?;
        let class = self.pop()?;
        match self.get(class) {
            Value::Global(Global::ScriptClass) => self.push(Value::Object(None)),
            _ => malformed("an object of what is not a TorchScript class"),
        }
    }

    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        match self.top()? {
            Value::Object(attributes) => *attributes = Some(state),
            // Attributes of the dict itself (`_metadata` of a state dict), or of a value nobody looks at.
            Value::Dict(_) | Value::Opaque => {}
            _ => return malformed("state for what has none"),
        }
        Ok(())
    }

    /// `('storage', class, key, location, number of elements)`.
    fn persistent_id(&mut self) -> Step<()> {
        let id = self.pop()?;
        let Value::Tuple(fields) = self.get(id) else {
            return malformed("a persistent id that is not a tuple");
        };
        let Some((&[tag, class, key, _, numel], view)) = fields.split_first_chunk::<5>() else {
            return malformed("a persistent id with too few fields");
        };
        if view
            .iter()
            .any(|&view| !matches!(self.get(view), Value::Opaque))
        {
            return malformed("a view of a storage, which PyTorch has not written since 0.4");
        }
        match (
            self.get(tag),
            self.get(class),
            self.get(key),
            self.get(numel),
        ) {
            (
                Value::Str("storage"),
                &Value::Global(Global::Storage(dtype)),
                &Value::Str(key),
                &Value::Int(numel),
            ) => self.push(Value::Storage { key, dtype, numel }),
            _ => malformed("a persistent id that names no storage"),
        }
    }
}

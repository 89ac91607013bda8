//! The stack machine that fills a [`Pickle`](super::Pickle)'s arena.

use std::collections::HashMap;

use super::cursor::{Cursor, Step, malformed};
use super::global::Global;
use super::literal;
use super::value::{Id, MAX_ITEMS, Reason, Value};

pub(super) struct Machine<'a> {
    /// Where the next instruction is.
    pub cursor: Cursor<'a>,
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
            cursor: Cursor::new(bytes),
            script,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs one instruction; the value on top when it was the last.
    pub fn step(&mut self) -> Step<Option<Id>> {
        let [opcode] = self.cursor.array()?;
        match opcode {
            // PROTO, FRAME
            0x80 => {
                let [protocol] = self.cursor.array()?;
                if protocol > 5 {
                    return malformed(format!("pickle protocol {protocol}; expected at most 5"));
                }
            }
            0x95 => drop(self.cursor.u64()?),
            b'.' => return self.pop().map(Some),

            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88))?,
            // BINFLOAT, FLOAT
            b'G' => {
                let value = f64::from_be_bytes(self.cursor.array()?);
                self.push(Value::Float(value))?;
            }
            b'F' => self.line_of(literal::float_line)?,
            // BININT, BININT1, BININT2, INT, LONG
            b'J' => {
                let value = i32::from_le_bytes(self.cursor.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.cursor.u8()?;
                self.push(Value::Int(value as i64))?;
            }
            b'M' => {
                let value = self.cursor.u16()?;
                self.push(Value::Int(value as i64))?;
            }
            b'I' => self.line_of(literal::int_line)?,
            b'L' => self.line_of(literal::long_line)?,
            // LONG1, LONG4
            0x8a => {
                let len = self.cursor.u8()?;
                self.bytes_of(len, literal::long)?;
            }
            0x8b => {
                let len = self.cursor.u32()?;
                self.bytes_of(len, literal::long)?;
            }
            // SHORT_BINUNICODE and SHORT_BINSTRING, BINUNICODE and BINSTRING, BINUNICODE8
            0x8c | b'U' => {
                let len = self.cursor.u8()?;
                self.bytes_of(len, literal::text)?;
            }
            b'X' | b'T' => {
                let len = self.cursor.u32()?;
                self.bytes_of(len, literal::text)?;
            }
            0x8d => {
                let len = self.cursor.u64()?;
                self.bytes_of(len, literal::text)?;
            }
            // STRING, UNICODE
            b'S' | b'V' => self.line_of(literal::text_line)?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8 and BYTEARRAY8
            b'C' => {
                let len = self.cursor.u8()?;
                self.bytes_of(len, |_| Value::Opaque)?;
            }
            b'B' => {
                let len = self.cursor.u32()?;
                self.bytes_of(len, |_| Value::Opaque)?;
            }
            0x8e | 0x96 => {
                let len = self.cursor.u64()?;
                self.bytes_of(len, |_| Value::Opaque)?;
            }
            // EXT1, EXT2, EXT4: classes by a number that only the writer knows.
            0x82..=0x84 => {
                self.cursor.take([1, 2, 4][usize::from(opcode - 0x82)])?;
                self.push(Value::Global(Global::Other))?;
            }

            // MARK, POP, DUP, POP_MARK
            b'(' => {
                if self.marks.len() >= MAX_ITEMS {
                    return malformed("too many open marks");
                }
                self.marks.push(self.stack.len());
            }
            // Python's POP takes a mark where one is on top.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'2' => {
                let top = self.pop()?;
                self.push_id(top)?;
                self.push_id(top)?;
            }
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

            // GET, BINGET, LONG_BINGET, PUT, BINPUT, LONG_BINPUT, MEMOIZE
            b'g' => {
                let index = self.index()?;
                self.memo_get(index)?;
            }
            b'h' => {
                let index = self.cursor.u8()?;
                self.memo_get(index as u32)?;
            }
            b'j' => {
                let index = self.cursor.u32()?;
                self.memo_get(index as u32)?;
            }
            b'p' => {
                let index = self.index()?;
                self.memo_put(index)?;
            }
            b'q' => {
                let index = self.cursor.u8()?;
                self.memo_put(index as u32)?;
            }
            b'r' => {
                let index = self.cursor.u32()?;
                self.memo_put(index as u32)?;
            }
            0x94 => self.memo_put(self.memo.len() as u32)?,

            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.cursor.name()?, self.cursor.name()?);
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
            // INST, OBJ: an object of a class, with arguments.
            b'i' => {
                let (module, name) = (self.cursor.name()?, self.cursor.name()?);
                self.import(module, name)?;
                self.pop()?;
                self.pop_mark()?;
                self.push(Value::Object(None))?;
            }
            b'o' => {
                self.pop_mark()?;
                self.push(Value::Object(None))?;
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX, BUILD, BINPERSID, PERSID
            b'R' => self.reduce()?,
            0x81 => self.new_object(2)?,
            0x92 => self.new_object(3)?,
            b'b' => self.build()?,
            b'Q' => self.persistent_id()?,
            // torch.save cannot write its storages in protocol 0.
            b'P' => self.line_of(|_| Value::Opaque)?,

            _ => {
                return malformed(format!(
                    "instruction {opcode:#04x} has no place in a state dict"
                ));
            }
        }
        Ok(None)
    }

    /// A value that is a line of text.
    fn line_of(&mut self, value: impl FnOnce(&'a [u8]) -> Value<'a>) -> Step<()> {
        let line = self.cursor.line()?;
        self.push(value(line))
    }

    /// A value that is so many bytes.
    fn bytes_of(&mut self, len: u64, value: impl FnOnce(&'a [u8]) -> Value<'a>) -> Step<()> {
        let bytes = self.cursor.take(len)?;
        self.push(value(bytes))
    }

    /// The index of a memo in protocol 0.
    fn index(&mut self) -> Step<u32> {
        let line = self.cursor.name()?;
        line.parse()
            .or_else(|_| malformed(format!("`{line}` as the index of a memo")))
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Step<()> {
        if self.values.len() >= MAX_ITEMS {
            return malformed(format!("more than {MAX_ITEMS} values"));
        }
        self.values.push(value);
        self.push_id(self.values.len() as Id - 1)
    }

    pub(super) fn push_id(&mut self, id: Id) -> Step<()> {
        if self.stack.len() >= MAX_ITEMS {
            return malformed(format!("more than {MAX_ITEMS} values on the stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
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

    pub(super) fn top(&mut self) -> Step<&mut Value<'a>> {
        let top = self.pop()?;
        self.stack.push(top);
        match self.values.get_mut(top as usize) {
            Some(value) => Ok(value),
            None => malformed("the stack is empty"),
        }
    }

    /// Puts items into a list. An object that gets some is a list of a class that is not known.
    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let top = self.top()?;
        match top {
            Value::List(list) => list.extend(items),
            Value::Object(_) => *top = Value::List(items),
            Value::Dict(_) | Value::Opaque => {}
            _ => return malformed("append to what is not a list"),
        }
        Ok(())
    }

    /// Puts items into a dict. An object that gets some is a dict of a class that is not known.
    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let top = self.top()?;
        if matches!(top, Value::Object(_)) {
            *top = Value::Dict(Vec::new());
        }
        let Value::Dict(dict) = top else {
            return match top {
                Value::Opaque => Ok(()),
                _ => malformed("items for what is not a dict"),
            };
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
}

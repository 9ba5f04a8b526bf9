//! Walks JSON text without building anything from it. The text has been found to be JSON before; if it turns out not to
//! be, the walk gives up and never panics.

/// The text is not what it should be, or the walk would cost more than it is worth.
#[derive(Debug)]
pub(crate) struct GaveUp;

/// How many bytes may still be read.
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), GaveUp> {
        self.0 = self.0.checked_sub(bytes).ok_or(GaveUp)?;
        Ok(())
    }
}

/// A key, quotes included, and its value.
pub(crate) type Member<'a> = (&'a [u8], &'a [u8]);

/// The members of an object or the elements of a list, one by one.
pub(crate) struct Parts<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    /// Of the object or list that the text is.
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Self { text, at: 1 }
    }

    /// The next member.
    pub(crate) fn member(&mut self, budget: &mut Budget) -> Result<Option<Member<'a>>, GaveUp> {
        let began = self.at;
        let Some(key) = self.part()? else { return Ok(None) };
        self.skip_space();
        if self.peek()? != b':' {
            return Err(GaveUp);
        }
        self.at += 1;
        self.skip_space();
        let value = self.value()?;
        budget.take(self.at - began)?;
        Ok(Some((key, value)))
    }

    /// The next element.
    pub(crate) fn element(&mut self, budget: &mut Budget) -> Result<Option<&'a [u8]>, GaveUp> {
        let began = self.at;
        let part = self.part()?;
        budget.take(self.at - began)?;
        Ok(part)
    }

    fn part(&mut self) -> Result<Option<&'a [u8]>, GaveUp> {
        self.skip_space();
        if self.peek()? == b',' {
            self.at += 1;
            self.skip_space();
        }
        match self.peek()? {
            b'}' | b']' => Ok(None),
            _ => self.value().map(Some),
        }
    }

    fn value(&mut self) -> Result<&'a [u8], GaveUp> {
        let began = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(GaveUp)?;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                _ => self.skip_scalar(),
            }
            if depth == 0 {
                break;
            }
        }
        if self.at == began { Err(GaveUp) } else { Ok(&self.text[began..self.at]) }
    }

    fn skip_string(&mut self) -> Result<(), GaveUp> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn skip_scalar(&mut self) {
        let is_part = |byte: &u8| !byte.is_ascii_whitespace() && !matches!(byte, b',' | b'}' | b']' | b':');
        self.at += self.text[self.at..].iter().take_while(|byte| is_part(byte)).count();
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn peek(&self) -> Result<u8, GaveUp> {
        self.text.get(self.at).copied().ok_or(GaveUp)
    }
}

/// Whether two strings, quotes included, are the same when they are unescaped.
pub(crate) fn is_same_string(one: &[u8], other: &[u8]) -> Result<bool, GaveUp> {
    if one == other {
        return Ok(true);
    }
    if !one.contains(&b'\\') && !other.contains(&b'\\') {
        return Ok(false);
    }
    let (mut one, mut other) = (Units::of(one)?, Units::of(other)?);
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => return Ok(true),
            (Some(one), Some(other)) if one == other => {}
            _ => return Ok(false),
        }
    }
}

/// A string's UTF-16 units, which are the same however they are written.
struct Units<'a> {
    chars: std::str::Chars<'a>,
    low_half: Option<u16>,
}

impl<'a> Units<'a> {
    fn of(quoted: &'a [u8]) -> Result<Self, GaveUp> {
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).ok_or(GaveUp)?;
        Ok(Self { chars: std::str::from_utf8(inner).map_err(|_| GaveUp)?.chars(), low_half: None })
    }

    fn next(&mut self) -> Result<Option<u16>, GaveUp> {
        if let Some(unit) = self.low_half.take() {
            return Ok(Some(unit));
        }
        let Some(char) = self.chars.next() else { return Ok(None) };
        let char = match char {
            '\\' => match self.chars.next().ok_or(GaveUp)? {
                'u' => return self.hex().map(Some),
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                plain => plain,
            },
            plain => plain,
        };
        let mut units = [0; 2];
        if let [_, low] = char.encode_utf16(&mut units) {
            self.low_half = Some(*low);
        }
        Ok(Some(units[0]))
    }

    fn hex(&mut self) -> Result<u16, GaveUp> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.chars.next().and_then(|char| char.to_digit(16)).ok_or(GaveUp)?;
            unit = unit * 16 + digit;
        }
        u16::try_from(unit).map_err(|_| GaveUp)
    }
}

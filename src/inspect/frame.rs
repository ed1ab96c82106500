//! Frames on the socket: 4 bytes of length, big-endian, and so many bytes of JSON.

use std::io::{self, ErrorKind, Read, Write};

/// Version of the protocol: `"version"` of every question.
pub const PROTOCOL: u32 = 1;
/// Bytes of a question.
pub const MAX_REQUEST: usize = 4 << 10;
/// Bytes of an answer.
pub const MAX_ANSWER: usize = 64 << 20;

/// Reads a frame of at most `most` bytes; `None` if the other end has closed before one began.
pub(super) fn read(stream: &mut impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match stream.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        let what = format!("a frame of {length} bytes: at most {most} are allowed");
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    // Memory comes with the bytes, not with the promise of them.
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes)?;
    match bytes.len() == length {
        true => Ok(Some(bytes)),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes a frame.
pub(super) fn write(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(bytes)
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | frames come out as they went in, one after the other | `frames_come_out_as_they_went_in` |
    //! | a length beyond the limit, or an end in the middle, is an error; an end between frames is none | `bad_frames_are_errors` |
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut wire = Vec::new();
        for frame in [&b"{}"[..], b"", &[7; 1000]] {
            write(&mut wire, frame).expect("memory");
        }
        let mut wire = &wire[..];
        for frame in [&b"{}"[..], b"", &[7; 1000]] {
            assert_eq!(read(&mut wire, 1000).expect("a frame").as_deref(), Some(frame));
        }
        assert_eq!(read(&mut wire, 1000).expect("the end"), None);
    }

    #[test]
    fn bad_frames_are_errors() {
        assert_eq!(read(&mut &[0xff; 8][..], 1000).expect_err("too long").kind(), ErrorKind::InvalidData);
        assert_eq!(read(&mut &[0, 0, 0, 5, 1][..], 1000).expect_err("cut").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(&mut &[0, 0][..], 1000).expect_err("cut").kind(), ErrorKind::UnexpectedEof);
    }
}

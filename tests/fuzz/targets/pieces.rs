//! Splits an input into chunks. The positions follow from the input, so that a finding is reproducible.

/// Returns the input byte by byte, in small chunks of one size, and in chunks of many sizes.
pub fn chunkings(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut mixed = Vec::new();
    let mut rest = data;
    for length in lengths(data) {
        if rest.is_empty() {
            break;
        }
        let (piece, more) = rest.split_at(length.min(rest.len()));
        mixed.push(piece);
        rest = more;
    }
    vec![data.chunks(1).collect(), data.chunks(7).collect(), mixed]
}

/// The same for text: no chunk ends within a character.
pub fn text_pieces(text: &str) -> Vec<Vec<&str>> {
    chunkings(text.as_bytes())
        .into_iter()
        .map(|chunks| {
            let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
            for chunk in chunks {
                at += chunk.len();
                if text.is_char_boundary(at) {
                    pieces.push(&text[from..at]);
                    from = at;
                }
            }
            pieces
        })
        .collect()
}

/// Splits an input of several texts at lines of three dashes.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    const SEPARATOR: &[u8] = b"\n---\n";
    let mut rest = data;
    std::array::from_fn(|_| {
        let end = rest.windows(SEPARATOR.len()).position(|part| part == SEPARATOR);
        let (part, more) = end.map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + SEPARATOR.len()..]));
        rest = more;
        part
    })
}

/// Endless numbers from 1 to 64.
fn lengths(data: &[u8]) -> impl Iterator<Item = usize> {
    // FNV-1a for the seed, then xorshift.
    let mut state = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1 + (state >> 58) as usize
    })
}

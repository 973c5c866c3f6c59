// Package fastlz packs and unpacks blocks, as NFC does with fragments.
//
// A block's first byte tells its level in the upper three bits; level 1 keeps distances below 8 KiB, level 2 below
// 72 KiB and has matches of any length.
package fastlz

import "errors"

const (
	near       = 8191
	far        = 65535 + near
	literalRun = 32
	longest1   = 264
)

var errBlock = errors.New("not a FastLZ block")

// Compress answers nil when the block does not shrink.
func Compress(in []byte, level int) []byte {
	if len(in) < 16 {
		return nil
	}
	reach, longest := near, longest1
	if level == 2 {
		reach, longest = far, len(in)
	}
	out := make([]byte, 0, len(in))
	var table [1 << 13]int32 // position + 1 of the last sequence with that hash
	start, at := 0, 0
	for at+4 <= len(in) && len(out) < len(in) {
		slot := hash(in[at:])
		from := int(table[slot]) - 1
		table[slot] = int32(at + 1)
		// The block must begin with a literal, whose first byte carries the level.
		if at == 0 || from < 0 || at-from > reach || in[from] != in[at] || in[from+1] != in[at+1] || in[from+2] != in[at+2] {
			at++
			continue
		}
		length := 3
		for at+length < len(in) && length < longest && in[from+length] == in[at+length] {
			length++
		}
		if at-from > near && length < 5 {
			at++ // a far match of that length takes more than it saves
			continue
		}
		out = literals(out, in[start:at])
		out = match(out, length, at-from-1, level)
		at += length
		start = at
	}
	out = literals(out, in[start:])
	if len(out) >= len(in) {
		return nil
	}
	if level == 2 {
		out[0] |= 1 << 5
	}
	return out
}

func hash(b []byte) uint32 {
	v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	return (v * 2654435769) >> 19
}

func literals(out, run []byte) []byte {
	for len(run) > 0 {
		n := len(run)
		if n > literalRun {
			n = literalRun
		}
		out = append(append(out, byte(n-1)), run[:n]...)
		run = run[n:]
	}
	return out
}

// match writes a match of a length, so many bytes and one behind.
func match(out []byte, length, behind, level int) []byte {
	close := behind
	if level == 2 && close >= near {
		close = near
	}
	length -= 2
	if length < 7 {
		out = append(out, byte(length<<5|close>>8))
	} else {
		out = append(out, byte(7<<5|close>>8))
		length -= 7
		for ; level == 2 && length >= 255; length -= 255 {
			out = append(out, 255)
		}
		out = append(out, byte(length))
	}
	out = append(out, byte(close))
	if level == 2 && behind >= near {
		beyond := behind - near
		out = append(out, byte(beyond>>8), byte(beyond))
	}
	return out
}

// Expand undoes both levels into exactly `length` bytes.
func Expand(in []byte, length int) ([]byte, error) {
	if len(in) == 0 || in[0]>>5 > 1 {
		return nil, errBlock
	}
	level := int(in[0]>>5) + 1
	out := make([]byte, 0, length)
	from := &reader{in: in}
	for op := int(from.next()) & 31; ; op = int(from.next()) {
		if op < 32 {
			out = append(out, from.take(op+1)...)
		} else {
			count, behind := from.match(op, level)
			if behind >= len(out) || len(out)+count > length {
				return nil, errBlock
			}
			for ; count > 0; count-- {
				out = append(out, out[len(out)-behind-1])
			}
		}
		if from.failed || len(out) > length {
			return nil, errBlock
		}
		if len(from.in) == 0 {
			break
		}
	}
	if len(out) != length {
		return nil, errBlock
	}
	return out, nil
}

type reader struct {
	in     []byte
	failed bool
}

func (r *reader) next() byte {
	b := r.take(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *reader) take(n int) []byte {
	if n > len(r.in) {
		r.failed, n = true, len(r.in)
	}
	taken := r.in[:n]
	r.in = r.in[n:]
	return taken
}

func (r *reader) match(op, level int) (length, behind int) {
	length, behind = op>>5+2, (op&31)<<8
	if op>>5 == 7 {
		for {
			more := r.next()
			length += int(more)
			if level == 1 || more != 255 || r.failed {
				break
			}
		}
	}
	last := r.next()
	behind += int(last)
	if level == 2 && last == 255 && op&31 == 31 {
		behind = near + int(r.next())<<8
		behind += int(r.next())
	}
	return length, behind
}

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
)

// said is a message of the file of golden sessions: what it is, and its bytes but for the handle.
type said struct {
	byHost bool
	name   string // type and words
	items  []goldenItem
}

// goldenItem is bytes, the handle, or zeros up to a length.
type goldenItem struct {
	bytes  []byte
	handle bool
	upTo   int
}

func (s *said) bytes(handle []byte) []byte {
	var all []byte
	for _, item := range s.items {
		switch {
		case item.handle:
			all = append(all, handle...)
		case item.upTo > 0:
			all = append(all, make([]byte, item.upTo-len(all))...)
		default:
			all = append(all, item.bytes...)
		}
	}
	return all
}

// goldenSessions reads the file; the parts are where sessions have them.
func goldenSessions(file string) (map[string][]*said, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	blocks, at := map[string][]*said{}, ""
	for n, line := range strings.Split(string(text), "\n") {
		mark := strings.SplitN(line, " ", 2)
		switch {
		case line == "" || line[0] == '#':
		case mark[0] == "session" || mark[0] == "part":
			at = line
			blocks[at] = nil
		case mark[0] == "=":
			blocks[at] = append(blocks[at], &said{name: "part " + mark[1]})
		case mark[0] == ">" || mark[0] == "<":
			blocks[at] = append(blocks[at], &said{byHost: mark[0] == "<", name: mark[1]})
		default:
			last := blocks[at][len(blocks[at])-1]
			if last.items, err = goldenLine(last.items, line); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		}
	}
	sessions := map[string][]*said{}
	for name, messages := range blocks {
		if !strings.HasPrefix(name, "session ") {
			continue
		}
		for _, m := range messages {
			part, ok := blocks[m.name]
			if !ok {
				part = []*said{m}
			}
			sessions[name[len("session "):]] = append(sessions[name[len("session "):]], part...)
		}
	}
	return sessions, nil
}

func goldenLine(items []goldenItem, line string) ([]goldenItem, error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		times := 1
		if star := strings.IndexByte(line, '*'); star > 0 && star < len(line)-1 && !strings.ContainsAny(line[:star], " \"") {
			var err error
			if times, err = strconv.Atoi(line[:star]); err != nil {
				return nil, err
			}
			line = line[star+1:]
		}
		word, rest := line, ""
		if line[0] == '"' {
			end := 1 + strings.IndexByte(line[1:], '"')
			word, rest = line[:end+1], line[end+1:]
		} else if blank := strings.IndexByte(line, ' '); blank > 0 {
			word, rest = line[:blank], line[blank:]
		}
		line = rest
		item := goldenItem{}
		var err error
		switch {
		case word[0] == '"':
			item.bytes = []byte(word[1 : len(word)-1])
		case word == "HANDLE":
			item.handle = true
		case strings.HasPrefix(word, ".."):
			item.upTo, err = strconv.Atoi(word[2:])
		default:
			item.bytes, err = hex.DecodeString(word)
		}
		if err != nil {
			return nil, err
		}
		item.bytes = bytes.Repeat(item.bytes, times)
		items = append(items, item)
	}
	return items, nil
}

// nfcIsByteForByte says what clients say in the golden sessions, and wants to hear what the host says there.
func nfcIsByteForByte(b *bench) error {
	sessions, err := goldenSessions(b.golden)
	if err != nil {
		return err
	}
	w, err := b.writable("golden")
	if err != nil {
		return err
	}
	if err := first(b.control("DELETE", "/nfc", nil, nil), b.control("POST", "/nfc", fields{"shuffle": false}, nil)); err != nil {
		return err
	}
	// Those that write come before those that read.
	names := []string{"write", "read", "packed", "refused", "foreign"}
	found := []string{}
	for name := range sessions {
		found = append(found, name)
	}
	sort.Strings(found)
	if err := expect("sessions", strings.Join(found, " "), "foreign packed read refused write"); err != nil {
		return err
	}
	for _, name := range names {
		method := "NfcRandomAccessOpenReadonly"
		if name == "write" || name == "foreign" {
			method = "NfcRandomAccessOpenDisk"
		}
		t, err := b.ticket(b.client, method, w.vm.Reference().Value, 2000, "")
		if err != nil {
			return err
		}
		if err := t.play(sessions[name]); err != nil {
			return fmt.Errorf("session %s: %w", name, err)
		}
	}
	state, err := b.nfcState()
	return first(err, expect("oddities", len(state.Odd), 0), b.control("POST", "/nfc", fields{"shuffle": true}, nil), w.destroy(b))
}

// play is the whole of a session's bytes behind the second handshake.
func (t *ticket) play(messages []*said) error {
	t.silent = true
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.raw.Close()
	handle := make([]byte, 8)
	for n, m := range messages {
		want := m.bytes(handle)
		if !m.byHost {
			if _, err := c.conn.Write(want); err != nil {
				return fmt.Errorf("message %d (%s): %w", n, m.name, err)
			}
			continue
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.in, got); err != nil {
			return fmt.Errorf("message %d (%s): %w", n, m.name, err)
		}
		if m.name == "4 open file" {
			copy(handle, got[16+8:])
			want = m.bytes(handle)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("message %d (%s): %x instead of %x", n, m.name, head(got), head(want))
		}
	}
	if messages[len(messages)-1].byHost {
		return nil // which has more to say to nobody
	}
	_, err = c.in.ReadByte()
	return expect("the end", err == io.EOF || err == io.ErrUnexpectedEOF, true)
}

func head(b []byte) []byte {
	if len(b) > 300 {
		return b[:300]
	}
	return b
}

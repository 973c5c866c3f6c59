package main

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fastlz"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi"
)

// ticket is a HostServiceTicket as it comes.
type ticket struct {
	Host           string `xml:"host"`
	Port           string `xml:"port"`
	SslThumbprint  string `xml:"sslThumbprint"`
	SslCertificate string `xml:"sslCertificate"`
	Service        string `xml:"service"`
	SessionID      string `xml:"sessionId"`

	polite   bool // says that the first TLS session ends; whether clients do is nobody's promise
	nameless bool // leaves the names of client and operation empty
	silent   bool // says nothing behind the second handshake
}

func (l *lab) nfcCall(client *govmomi.Client, method, arguments string) (string, error) {
	return l.sdkCall(client, method, "NfcService", "nfcService", arguments)
}

// sdkCall sends a call that govmomi has no types for, and answers the text of its answer.
func (l *lab) sdkCall(client *govmomi.Client, method, kind, this, arguments string) (string, error) {
	body := `<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><` + method +
		` xmlns="urn:vim25"><_this type="` + kind + `">` + this + `</_this>` + arguments + `</` + method + `></Body></Envelope>`
	request, err := http.NewRequest("POST", l.URL+"/sdk", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for _, cookie := range client.Client.Client.Jar.Cookies(client.URL()) {
		request.AddCookie(cookie)
	}
	a, err := l.ask(request)
	if err != nil {
		return "", err
	}
	if a.status != 200 {
		return "", fmt.Errorf("%s: %d %s", method, a.status, a.body)
	}
	return string(a.body), nil
}

func (l *lab) ticket(client *govmomi.Client, method, vm string, disk int, more string) (*ticket, error) {
	arguments := `<vm type="VirtualMachine">` + vm + `</vm>`
	if disk != 0 {
		arguments += fmt.Sprintf(`<diskDeviceKey>%d</diskDeviceKey>`, disk)
	}
	text, err := l.nfcCall(client, method, arguments+more)
	if err != nil {
		return nil, err
	}
	var envelope struct {
		Body struct {
			Response struct {
				Returnval ticket `xml:"returnval"`
			} `xml:",any"`
		}
	}
	return &envelope.Body.Response.Returnval, xml.Unmarshal([]byte(text), &envelope)
}

// nfc is a client, written from the protocol's tables with offsets as numbers, apart from the server's code.
type nfc struct {
	raw  net.Conn
	conn net.Conn
	in   *bufio.Reader
	op   uint32
}

var le = binary.LittleEndian

// shake does one of the two handshakes and compares the certificate with the ticket.
func (t *ticket) shake(raw net.Conn) (*tls.Conn, error) {
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	sum := sha1.Sum(conn.ConnectionState().PeerCertificates[0].Raw)
	got := strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum[:]), " ", ":"))
	if got != t.SslThumbprint {
		return nil, errors.New("wrong certificate")
	}
	return conn, nil
}

func (t *ticket) dial() (*nfc, error) {
	raw, err := net.DialTimeout("tcp", net.JoinHostPort(t.Host, t.Port), 5*time.Second)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	c, err := t.talk(raw)
	if err != nil {
		raw.Close()
	}
	return c, err
}

func (t *ticket) talk(raw net.Conn) (*nfc, error) {
	banner := make([]byte, 0, 256)
	for !strings.HasSuffix(string(banner), "\r\n") {
		var one [1]byte
		if _, err := io.ReadFull(raw, one[:]); err != nil {
			return nil, fmt.Errorf("banner: %w", err)
		}
		banner = append(banner, one[0])
	}
	if !strings.HasPrefix(string(banner), "220 ") || !strings.Contains(string(banner), "NFCSSL supported") {
		return nil, fmt.Errorf("banner %q", banner)
	}
	outer, err := t.shake(raw)
	if err != nil {
		return nil, fmt.Errorf("first TLS: %w", err)
	}
	lines := bufio.NewReader(outer)
	for _, step := range [][2]string{
		{"SESSION " + t.SessionID, ""}, {"BANNER ", "220 "}, {"THUMBPRINT_SHA2 PlainText", "200 "}, {"PROXY vpxa-nfcssl", "200 Connect ha-nfcssl"},
	} {
		if _, err := io.WriteString(outer, step[0]+"\r\n"); err != nil {
			return nil, err
		}
		if step[1] == "" {
			continue
		}
		line, err := lines.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step[1]) {
			return nil, fmt.Errorf("%s: %q %v", step[0], line, err)
		}
	}
	if t.polite {
		// Go lets the connection write nothing after that, if it is not told otherwise.
		if err := first(outer.CloseWrite(), raw.SetDeadline(time.Now().Add(20*time.Second))); err != nil {
			return nil, err
		}
	}
	inner, err := t.shake(raw)
	if err != nil {
		return nil, fmt.Errorf("second TLS: %w", err)
	}
	c := &nfc{raw: raw, conn: inner, in: bufio.NewReader(inner)}
	if t.silent {
		return c, nil
	}
	if t.nameless {
		return c, c.setUp("", "")
	}
	return c, c.setUp("selftest", "try")
}

func (c *nfc) classic(kind uint32, words map[int]uint32, text string) error {
	b := make([]byte, 264)
	le.PutUint32(b, kind)
	for at, word := range words {
		le.PutUint32(b[at:], word)
	}
	copy(b[4:], text)
	_, err := c.conn.Write(b)
	return err
}

func (c *nfc) expectClassic(kind uint32, at int, word uint32) error {
	b := make([]byte, 264)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return err
	}
	return first(expect("message", le.Uint32(b), kind), expect("word of it", le.Uint32(b[at:]), word))
}

func (c *nfc) setUp(client, operation string) error {
	if err := first(c.classic(43, nil, "PlainText"), c.classic(33, nil, ""), c.expectClassic(36, 16, 1),
		c.classic(51, map[int]uint32{4: 11}, ""), c.expectClassic(51, 4, 11),
		c.classic(54, map[int]uint32{4: uint32(len(client)), 8: uint32(len(operation))}, "")); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, client+operation); err != nil {
		return err
	}
	if err := first(c.classic(55, map[int]uint32{4: 3}, ""), c.classic(52, nil, ""), c.expectClassic(52, 4, 0)); err != nil {
		return err
	}
	for kind, payload := range map[uint32][]byte{2: make([]byte, 16)} {
		if _, err := c.exchange(kind, payload, nil); err != nil {
			return err
		}
	}
	sizes, err := c.exchange(9, make([]byte, 12), nil)
	if err := first(err, expect("buffer sizes are told", len(sizes) == 12 && le.Uint32(sizes) > 0, true)); err != nil {
		return err
	}
	_, err = c.exchange(22, []byte{1, 0, 0, 0}, nil)
	return err
}

func (c *nfc) send(kind uint32, payload, extra []byte) (uint32, error) {
	op := c.op
	c.op++
	return op, c.sendAs(op, kind, payload, extra)
}

func (c *nfc) sendAs(op, kind uint32, payload, extra []byte) error {
	b := []byte{0x7a, 0xda, 0x00, 0xa1}
	var rest [12]byte
	le.PutUint32(rest[:], kind)
	le.PutUint32(rest[4:], uint32(len(payload)))
	le.PutUint32(rest[8:], op)
	_, err := c.conn.Write(append(append(append(b, rest[:]...), payload...), extra...))
	return err
}

// receive reads one frame; a fragment's data is in extra.
func (c *nfc) receive() (kind, op uint32, payload, extra []byte, err error) {
	head := make([]byte, 16)
	if _, err = io.ReadFull(c.in, head); err != nil {
		return
	}
	if err = expect("magic", fmt.Sprintf("% x", head[:4]), "7a da 00 a1"); err != nil {
		return
	}
	kind, op, payload = le.Uint32(head[4:]), le.Uint32(head[12:]), make([]byte, le.Uint32(head[8:]))
	if _, err = io.ReadFull(c.in, payload); err != nil || kind != 7 {
		return
	}
	extra = make([]byte, le.Uint32(payload[36:]))
	_, err = io.ReadFull(c.in, extra)
	return
}

// nfcRefusal is an error frame.
type nfcRefusal uint32

func (r nfcRefusal) Error() string { return fmt.Sprintf("nfc error %#x", uint32(r)) }

func (c *nfc) exchange(kind uint32, payload, extra []byte) ([]byte, error) {
	op, err := c.send(kind, payload, extra)
	if err != nil {
		return nil, err
	}
	gotKind, gotOp, answer, _, err := c.receive()
	if err == nil && gotKind == 1 {
		return nil, nfcRefusal(le.Uint32(answer))
	}
	return answer, first(err, expect("type", gotKind, kind), expect("operation", gotOp, op))
}

func (c *nfc) open(path string, flags uint32) (handle, capacity uint64, err error) {
	payload := make([]byte, 60)
	le.PutUint32(payload, uint32(len(path)))
	le.PutUint32(payload[16:], 2)
	le.PutUint32(payload[20:], flags)
	reply, err := c.exchange(4, payload, []byte(path))
	if err != nil {
		return 0, 0, err
	}
	return le.Uint64(reply[8:]), le.Uint64(reply[28:]), first(
		expect("file type", le.Uint32(reply[16:]), uint32(2)), expect("flags", le.Uint32(reply[20:]), flags), expect("sector", le.Uint32(reply[36:]), uint32(512)))
}

func readPayload(handle, offset uint64, length, compression uint32) []byte {
	payload := make([]byte, 44)
	le.PutUint64(payload, handle)
	le.PutUint64(payload[8:], 1|uint64(compression)<<32)
	le.PutUint64(payload[16:], offset)
	le.PutUint64(payload[24:], uint64(length))
	le.PutUint32(payload[32:], length)
	le.PutUint32(payload[36:], length)
	return payload
}

// span is a read in flight.
type span struct {
	offset uint64
	data   []byte
	left   int
}

// seen is what the fragments of some reads looked like.
type seen struct {
	fragments, packed, disordered, odd int
}

// readAll keeps `depth` reads in flight over [offset, offset+length).
func (c *nfc) readAll(handle, offset uint64, length, piece, depth int, compression uint32) ([]byte, *seen, error) {
	out, flying, s := make([]byte, length), map[uint32]*span{}, &seen{}
	expected := map[uint32]uint32{}
	for next := 0; next < length || len(flying) > 0; {
		for next < length && len(flying) < depth {
			n := piece
			if n > length-next {
				n = length - next
			}
			op, err := c.send(7, readPayload(handle, offset+uint64(next), uint32(n), compression), nil)
			if err != nil {
				return nil, s, err
			}
			flying[op] = &span{offset + uint64(next), out[next : next+n], n}
			next += n
		}
		kind, op, p, extra, err := c.receive()
		if err != nil {
			return nil, s, err
		}
		if kind == 1 {
			return nil, s, nfcRefusal(le.Uint32(p))
		}
		f, ok := flying[op]
		if !ok || kind != 7 || len(p) != 44 {
			return nil, s, fmt.Errorf("type %d of operation %d", kind, op)
		}
		dest, plain := le.Uint32(p[28:]), int(le.Uint32(p[32:]))
		if err := fits(p, f, len(extra), int(dest), plain); err != nil {
			return nil, s, err
		}
		if le.Uint32(p[12:]) == 2 {
			s.packed++
			if extra, err = fastlz.Expand(extra, plain); err != nil {
				return nil, s, err
			}
		}
		s.fragments++
		if dest != expected[op] {
			s.disordered++
		}
		if plain%512 != 0 {
			s.odd++
		}
		expected[op] = dest + uint32(plain)
		copy(f.data[dest:], extra)
		if f.left -= plain; f.left == 0 {
			delete(flying, op)
		}
	}
	return out, s, nil
}

var errHeader = errors.New("a fragment that does not fit")

func fits(p []byte, f *span, extra, dest, plain int) error {
	packed := le.Uint32(p[12:]) == 2
	if le.Uint64(p) != 0 || le.Uint32(p[8:]) != 1 || le.Uint64(p[16:]) != f.offset || int(le.Uint32(p[24:])) != len(f.data) ||
		plain > 65536 || dest+plain > len(f.data) || plain > f.left || (!packed && extra != plain) || (packed && extra >= plain) {
		return errHeader
	}
	return nil
}

// write sends one operation in fragments of at most 64 KiB and waits for its one answer.
func (c *nfc) write(handle, offset uint64, data []byte, level int) error {
	op := c.op
	c.op++
	for at := 0; at < len(data); {
		n := len(data) - at
		if n > 65536 {
			n = 65536
		}
		piece, opcode := data[at:at+n], uint64(0)
		if level > 0 {
			if packed := fastlz.Compress(piece, level); packed != nil {
				piece, opcode = packed, 2<<32
			}
		}
		payload := make([]byte, 44)
		le.PutUint64(payload, handle)
		le.PutUint64(payload[8:], opcode)
		le.PutUint64(payload[16:], offset)
		for i, v := range []int{len(data), at, n, len(piece)} {
			le.PutUint32(payload[24+4*i:], uint32(v))
		}
		if err := c.sendAs(op, 7, payload, piece); err != nil {
			return err
		}
		at += n
	}
	kind, got, p, _, err := c.receive()
	if err == nil && kind == 1 {
		return nfcRefusal(le.Uint32(p))
	}
	return first(err, expect("type", kind, uint32(7)), expect("operation", got, op))
}

func (c *nfc) closeFile(handle uint64) error {
	payload := make([]byte, 8)
	le.PutUint64(payload, handle)
	_, err := c.exchange(5, payload, nil)
	return err
}

func (c *nfc) bye() error {
	_, err := c.exchange(3, make([]byte, 4), nil)
	return first(err, c.classic(4, nil, ""), c.raw.Close())
}

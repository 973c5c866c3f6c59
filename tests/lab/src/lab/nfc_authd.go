package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
)

const (
	authdBanner = "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported\r\n"
	authdHello  = "220 VMware Authentication Daemon Version 1.10\r\n"
	setupLimit  = 30 * time.Second
)

// authenticate speaks as port 902 does until NFC begins: a banner in the clear, TLS, lines, a second TLS.
func (s *nfcServer) authenticate(h *nfcHost, raw net.Conn) (net.Conn, *simulator.NfcGrant, error) {
	s.calls.add(call{Method: "nfc-connect", This: h.Moref})
	kind, value := s.nfcFault("nfc-connect", nil)
	switch kind {
	case "drop":
		return nil, nil, errors.New("dropped on demand")
	case "hang":
		time.Sleep(seconds(value))
	}
	if !simulator.Lab.HostIsThere(h.Moref) {
		return nil, nil, errors.New("the host is in maintenance mode")
	}
	if err := raw.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return nil, nil, err
	}
	if _, err := io.WriteString(raw, authdBanner); err != nil {
		return nil, nil, err
	}
	outer, err := s.shake(h, &recordConn{Conn: raw}, kind == "wrong-certificate")
	if err != nil {
		return nil, nil, fmt.Errorf("first TLS handshake: %w", err)
	}
	service, grant, err := s.converse(h, outer)
	if err != nil {
		return nil, nil, err
	}
	if service == "vpxa-nfc" {
		return raw, grant, nil
	}
	inner, err := s.shake(h, &handshakeConn{Conn: raw}, kind == "wrong-inner-certificate")
	if err != nil {
		return nil, nil, fmt.Errorf("second TLS handshake: %w", err)
	}
	return inner, grant, nil
}

func (s *nfcServer) shake(h *nfcHost, conn net.Conn, wrong bool) (*tls.Conn, error) {
	certificate := h.identity.certificate
	if wrong {
		other, err := makeIdentity(h.Pem+".wrong", h.Name, net.ParseIP(strings.Split(h.Address, ":")[0]))
		if err != nil {
			return nil, err
		}
		certificate = other.certificate
	}
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	return secure, secure.Handshake()
}

// converse answers lines until PROXY, and then the service that the client chose.
func (s *nfcServer) converse(h *nfcHost, conn net.Conn) (string, *simulator.NfcGrant, error) {
	lines := bufio.NewReaderSize(conn, 4096)
	session := ""
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return "", nil, fmt.Errorf("lines of authd: %w", err)
		}
		text := string(line)
		if !strings.HasSuffix(text, "\r\n") {
			s.note("line %q does not end with CR LF", text)
		}
		text = strings.TrimRight(text, "\r\n")
		word, rest := text, ""
		if cut := strings.IndexByte(text, ' '); cut >= 0 {
			word, rest = text[:cut], text[cut+1:]
		}
		answer := ""
		switch word {
		case "SESSION":
			session = rest
			continue // no answer
		case "BANNER":
			if text != "BANNER " {
				s.note("%q instead of BANNER and a space", text)
			}
			answer = authdHello
		case "THUMBPRINT_SHA2":
			sum := sha256.Sum256(h.identity.certificate.Certificate[0])
			answer = "200 " + colons(sum[:]) + "\r\n"
		case "PROXY":
			grant := s.redeem(h, session)
			service, known := map[string]string{"vpxa-nfcssl": "ha-nfcssl", "vpxa-nfc": "ha-nfc"}[rest]
			if grant == nil || !known {
				_, err := io.WriteString(conn, "530 Please login with USER and PASS.\r\n")
				return "", nil, first(err, fmt.Errorf("%q refused: the session %.8q is unknown, used, or another host's", text, session))
			}
			_, err := io.WriteString(conn, "200 Connect "+service+"\r\n")
			return rest, grant, err
		case "USER", "PASS":
			answer = "530 Login incorrect.\r\n"
		default:
			s.note("line %q", text)
			answer = "500 Unknown command.\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return "", nil, err
		}
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// redeem takes a ticket for its one connection.
func (s *nfcServer) redeem(h *nfcHost, id string) *simulator.NfcGrant {
	s.mu.Lock()
	defer s.mu.Unlock()
	ticket, ok := s.tickets[id]
	if !ok || ticket.used || ticket.grant.Host != h.Moref {
		return nil
	}
	ticket.used = true
	return ticket.grant
}

// recordConn hands out no more than the TLS record that was asked for, so that nothing of what follows the
// first TLS session is swallowed by it.
type recordConn struct {
	net.Conn
	header []byte
	left   int
}

func (c *recordConn) Read(b []byte) (int, error) {
	if len(c.header) == 0 && c.left == 0 {
		header := make([]byte, 5)
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return 0, err
		}
		c.header, c.left = header, int(binary.BigEndian.Uint16(header[3:]))
	}
	if len(c.header) > 0 {
		n := copy(b, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	if len(b) > c.left {
		b = b[:c.left]
	}
	n, err := c.Conn.Read(b)
	c.left -= n
	return n, err
}

// handshakeConn passes over what a client may still say in the first TLS session, its end for instance.
type handshakeConn struct {
	net.Conn
	header []byte
	begun  bool
}

func (c *handshakeConn) Read(b []byte) (int, error) {
	for !c.begun {
		header := make([]byte, 5)
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return 0, err
		}
		if header[0] == 22 { // a handshake record
			c.header, c.begun = header, true
			break
		}
		if _, err := io.CopyN(io.Discard, c.Conn, int64(binary.BigEndian.Uint16(header[3:]))); err != nil {
			return 0, err
		}
	}
	if len(c.header) > 0 {
		n := copy(b, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

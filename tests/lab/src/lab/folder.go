package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// serveFolder is datastore access: https://vcenter/folder/PATH?dcPath=DC0&dsName=lab-ds
func (v *vcenter) serveFolder(w http.ResponseWriter, r *http.Request) {
	method := "folder-" + strings.ToLower(r.Method)
	query := r.URL.Query()
	name := strings.TrimPrefix(r.URL.Path, "/folder/")
	file, err := simulator.Lab.Resolve(query.Get("dcPath"), query.Get("dsName"), name)
	v.calls.add(call{Method: method, VM: vmName(file), Session: short(sessionOf(r)), Path: name, Range: r.Header.Get("Range")})

	var injected *fault
	if f := v.faults.hit(method, vmMoref(file), vmName(file)); f != nil {
		if f.Kind == "expire-session" {
			simulator.EndSession(sessionOf(r))
		} else if !f.interrupt(w, r) {
			return
		} else {
			injected = f
		}
	}
	switch {
	case !v.mayRead(r):
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		refuse(w, r, "not logged in", http.StatusUnauthorized)
	case v.permitFolder(r) != "":
		refuse(w, r, "permission denied: "+v.permitFolder(r), http.StatusForbidden)
	case err != nil:
		refuse(w, r, err.Error(), http.StatusNotFound)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		v.get(w, r, file, injected)
	case r.Method == http.MethodPut:
		v.put(w, r, file, injected)
	default:
		refuse(w, r, "not a method of /folder", http.StatusMethodNotAllowed)
	}
}

// refuse answers an error once the body has arrived. Answered earlier, the connection is closed under a sender
// that still writes, who then sees a reset in place of the reason.
func refuse(w http.ResponseWriter, r *http.Request, reason string, status int) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		log.Printf("the body of a refused request: %s", err)
	}
	http.Error(w, reason, status)
}

func vmName(file *simulator.File) string {
	if file == nil {
		return ""
	}
	return file.VMName
}

func vmMoref(file *simulator.File) string {
	if file == nil {
		return ""
	}
	return file.VM
}

// mayRead takes a live session's cookie or the user's password. It does not keep the session awake.
func (v *vcenter) mayRead(r *http.Request) bool {
	if session := sessionOf(r); session != "" {
		return simulator.SessionIsLive(session, v.idle)
	}
	user, password, ok := r.BasicAuth()
	return ok && v.isAccount(user, password)
}

// isAccount tells whether somebody may log in so.
func (v *vcenter) isAccount(user, password string) bool {
	want, _ := v.user.Password()
	if user == simulator.BackupUser {
		return password == v.backup
	}
	return user == v.user.Username() && password == want
}

func (v *vcenter) get(w http.ResponseWriter, r *http.Request, file *simulator.File, injected *fault) {
	if file.Locked {
		http.Error(w, "Unable to access file: the file is locked", http.StatusInternalServerError)
		return
	}
	f, err := os.Open(file.Path)
	if err != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.IsDir() {
		http.Error(w, "not a file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	content := &pacedFile{File: f, pace: v.pace}
	if injected == nil {
		http.ServeContent(w, r, "", st.ModTime(), content)
		return
	}
	lie(w, r, injected.Kind, content, st.Size())
}

// lie answers a GET in one of the ways in which servers go wrong.
func lie(w http.ResponseWriter, r *http.Request, kind string, content io.ReadSeeker, size int64) {
	start, end := rangeOf(r.Header.Get("Range"), size)
	switch kind {
	case "status-200":
		r.Header.Del("Range")
		http.ServeContent(w, r, "", time.Time{}, content)
	case "short":
		sendPart(w, content, start, end, size, (end-start)/2)
		panic(http.ErrAbortHandler)
	case "wrong-range":
		shift := int64(4096)
		if end+shift > size {
			shift = -4096
		}
		if start+shift < 0 {
			http.Error(w, "the file is too small for a wrong range", http.StatusInternalServerError)
			return
		}
		sendPart(w, content, start+shift, end+shift, size, end-start)
	case "drop-after":
		panic(http.ErrAbortHandler)
	default:
		http.ServeContent(w, r, "", time.Time{}, content)
	}
}

func sendPart(w http.ResponseWriter, content io.ReadSeeker, start, end, size, send int64) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
	w.Header().Set("Content-Length", strconv.FormatInt(end-start, 10))
	w.WriteHeader(http.StatusPartialContent)
	if _, err := content.Seek(start, io.SeekStart); err == nil {
		_, err = io.CopyN(w, content, send)
		if err != nil {
			log.Printf("send part: %s", err)
		}
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// rangeOf reads a single range, the whole file when there is none.
func rangeOf(header string, size int64) (start, end int64) {
	var first, last int64
	if n, _ := fmt.Sscanf(header, "bytes=%d-%d", &first, &last); n == 2 && first <= last && last < size {
		return first, last + 1
	}
	if n, _ := fmt.Sscanf(header, "bytes=%d-", &first); n == 1 && first < size {
		return first, size
	}
	return 0, size
}

// put replaces a whole file. What arrived before a connection broke stays, as on a datastore.
func (v *vcenter) put(w http.ResponseWriter, r *http.Request, file *simulator.File, injected *fault) {
	switch {
	case r.Header.Get("Content-Range") != "":
		refuse(w, r, "a PUT takes whole files", http.StatusNotImplemented)
		return
	case file.Locked || !file.Writable:
		refuse(w, r, "Unable to access file: the file is locked", http.StatusInternalServerError)
		return
	}
	if _, err := os.Stat(filepath.Dir(file.Path)); err != nil {
		refuse(w, r, "no such directory", http.StatusNotFound)
		return
	}
	_, err := os.Stat(file.Path)
	status := http.StatusOK
	if os.IsNotExist(err) {
		status = http.StatusCreated
	}
	body := io.Reader(r.Body)
	if injected != nil && injected.Kind == "short" {
		body = io.LimitReader(r.Body, r.ContentLength/2)
	}
	if err := store(file.Path, body); err != nil {
		log.Printf("put %s: %s", file.Path, err)
		refuse(w, r, err.Error(), http.StatusInternalServerError)
		return
	}
	if injected != nil && (injected.Kind == "drop-after" || injected.Kind == "short") {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
}

// store writes a stream to a file and leaves holes for its zeros.
func store(path string, body io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	var offset int64
	for {
		n, err := fill(body, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, err := f.WriteAt(block[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if err == nil {
			continue
		}
		if truncated := f.Truncate(offset); truncated != nil || err == io.EOF {
			return truncated
		}
		return err
	}
}

// fill reads a whole block if it can. Unlike io.ReadFull it answers the reader's own error, which tells the
// end of a body from a broken connection.
func fill(from io.Reader, block []byte) (int, error) {
	n := 0
	for n < len(block) {
		m, err := from.Read(block[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// pace slows data reads of the whole lab down to a rate.
type pace struct {
	mu   sync.Mutex
	rate int64
	next time.Time
}

func (p *pace) set(bytesPerSecond int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.next = bytesPerSecond, time.Now()
}

func (p *pace) wait(n int) {
	p.mu.Lock()
	if p.rate <= 0 {
		p.mu.Unlock()
		return
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	until := p.next
	p.mu.Unlock()
	time.Sleep(time.Until(until))
}

type pacedFile struct {
	*os.File
	pace *pace
}

func (f *pacedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.pace.wait(n)
	return n, err
}

// WriteTo of os.File would go around Read.
func (f *pacedFile) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 128<<10))
}

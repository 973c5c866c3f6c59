package main

import (
	"sync"
	"time"
)

// call is one request that reached the lab.
type call struct {
	Seq     int       `json:"seq"`
	At      time.Time `json:"at"`
	Method  string    `json:"method"`
	This    string    `json:"this,omitempty"`
	VM      string    `json:"vm,omitempty"`
	Session string    `json:"session,omitempty"`
	Path    string    `json:"path,omitempty"`
	Range   string    `json:"range,omitempty"`
}

const callsKept = 10000

type callLog struct {
	mu    sync.Mutex
	count map[string]int
	last  []call
	seq   int
}

func newCallLog() *callLog { return &callLog{count: map[string]int{}} }

func (l *callLog) add(c call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	c.Seq, c.At = l.seq, time.Now().UTC()
	l.count[c.Method]++
	l.last = append(l.last, c)
	if len(l.last) > 2*callsKept {
		l.last = append([]call{}, l.last[callsKept:]...)
	}
}

func (l *callLog) report(most int) (map[string]int, []call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := map[string]int{}
	for method, n := range l.count {
		count[method] = n
	}
	from := len(l.last) - most
	if from < 0 {
		from = 0
	}
	return count, append([]call{}, l.last[from:]...)
}

func (l *callLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count, l.last = map[string]int{}, nil
}

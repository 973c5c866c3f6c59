package main

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const writerBlock = 4096

// writer plays a running guest: it keeps changing blocks of a live disk file.
type writer struct {
	file       *os.File
	random     *rand.Rand
	start, end int64 // bytes that it may change
	tail       int64 // where the next appended block goes
	written    int
}

func write(args []string) error {
	flags := flag.NewFlagSet("lab write", flag.ExitOnError)
	name := flags.String("file", "", "live flat file of a disk")
	rate := flags.Float64("rate", 50, "blocks of 4 KiB in a second")
	seed := flags.Int64("seed", 1, "seed of positions and contents")
	start := flags.Int64("start", 1<<20, "first byte that may change")
	length := flags.Int64("length", 0, "bytes from there that may change; 0 means to the end")
	blocks := flags.Int("blocks", 0, "stop after so many blocks; 0 means never")
	flags.Parse(args)

	w, err := openWriter(*name, *seed, *start, *length)
	if err != nil {
		return err
	}
	defer w.file.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	err = w.run(stop, *rate, *blocks)
	fmt.Printf("{\"blocks\":%d}\n", w.written)
	return err
}

func openWriter(name string, seed, start, length int64) (*writer, error) {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	end := st.Size()
	if length > 0 && start+length < end {
		end = start + length
	}
	if start < 0 || end-start < 2*writerBlock {
		return nil, fmt.Errorf("%s is too small to write from byte %d on", name, start)
	}
	return &writer{file: file, random: rand.New(rand.NewSource(seed)), start: start, end: end, tail: start + (end-start)/2}, nil
}

func (w *writer) run(stop <-chan os.Signal, rate float64, blocks int) error {
	if rate <= 0 {
		return fmt.Errorf("--rate must be above 0")
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for blocks == 0 || w.written < blocks {
		select {
		case <-stop:
			return nil
		case <-ticker.C:
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// step changes one block, every fourth time the next of a growing area. The lock is what a snapshot's stun
// waits for and holds.
func (w *writer) step() error {
	offset := w.start + w.random.Int63n((w.end-w.start)/writerBlock)*writerBlock
	if w.written%4 == 3 {
		offset = w.tail
		if w.tail += writerBlock; w.tail+writerBlock > w.end {
			w.tail = w.start
		}
	}
	block := make([]byte, writerBlock)
	w.random.Read(block)
	copy(block, fmt.Sprintf("lab write %d at %d\n", w.written, offset))
	fd := int(w.file.Fd())
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
		return err
	}
	_, err := w.file.WriteAt(block, offset)
	if unlock := syscall.Flock(fd, syscall.LOCK_UN); err == nil {
		err = unlock
	}
	w.written++
	return err
}

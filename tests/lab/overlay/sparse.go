// Sparse files: copying, their allocated areas, and how two of them differ.
package simulator

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
)

const (
	seekData = 3
	seekHole = 4
	ficlone  = 0x40049409

	// ESXi tracks changes in blocks of this order of size.
	trackedBlock = 64 << 10

	// Only what either file has allocated is read to compare them: a sparse file is mostly holes.
	comparedBlock = 4 << 10
)

type area struct{ start, end int64 }

// CopySparse makes dst a copy of src that takes no more room: a reflink where the file system can.
func CopySparse(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := copySparse(in, out); err != nil {
		out.Close()
		os.Remove(dst)
		return err
	}
	return out.Close()
}

func copySparse(in, out *os.File) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, out.Fd(), ficlone, in.Fd()); errno == 0 {
		return nil
	}
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	data, err := dataAreas(in, st.Size(), 1)
	if err != nil {
		return err
	}
	for _, a := range data {
		if _, err := in.Seek(a.start, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(a.start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, a.end-a.start); err != nil {
			return err
		}
	}
	return nil
}

// dataAreas lists what is allocated in f below size, widened to multiples of align, ascending and disjoint.
func dataAreas(f *os.File, size, align int64) ([]area, error) {
	var areas []area
	for offset := int64(0); offset < size; {
		start, err := f.Seek(offset, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := f.Seek(start, seekHole)
		if err != nil {
			return nil, err
		}
		areas = addArea(areas, area{start - start%align, min64((end+align-1)/align*align, size)})
		offset = end
	}
	return areas, nil
}

// addArea appends an area that starts at or after the last one's start, merging the two where they touch.
func addArea(areas []area, a area) []area {
	if n := len(areas); n > 0 && a.start <= areas[n-1].end {
		if a.end > areas[n-1].end {
			areas[n-1].end = a.end
		}
		return areas
	}
	return append(areas, a)
}

// allocated lists the tracked blocks of a file that hold data.
func allocated(path string) ([]area, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return dataAreas(f, st.Size(), trackedBlock)
}

// changed lists the tracked blocks in which the file after differs from the file before.
func changed(before, after string) ([]area, error) {
	older, err := os.Open(before)
	if err != nil {
		return nil, err
	}
	defer older.Close()
	newer, err := os.Open(after)
	if err != nil {
		return nil, err
	}
	defer newer.Close()
	st, err := newer.Stat()
	if err != nil {
		return nil, err
	}
	candidates, err := eitherAllocated(older, newer, st.Size())
	if err != nil {
		return nil, err
	}
	return compare(older, newer, st.Size(), candidates)
}

func eitherAllocated(older, newer *os.File, size int64) ([]area, error) {
	a, err := dataAreas(older, size, comparedBlock)
	if err != nil {
		return nil, err
	}
	b, err := dataAreas(newer, size, comparedBlock)
	if err != nil {
		return nil, err
	}
	return unite(a, b), nil
}

func compare(older, newer *os.File, size int64, candidates []area) ([]area, error) {
	var differing []area
	x, y := make([]byte, trackedBlock), make([]byte, trackedBlock)
	for _, c := range candidates {
		for start := c.start; start < c.end; {
			block := start - start%trackedBlock
			end := min64(block+trackedBlock, c.end)
			if err := readOrZero(older, x[:end-start], start); err != nil {
				return nil, err
			}
			if err := readOrZero(newer, y[:end-start], start); err != nil {
				return nil, err
			}
			if !bytes.Equal(x[:end-start], y[:end-start]) {
				differing = addArea(differing, area{block, min64(block+trackedBlock, size)})
			}
			start = end
		}
	}
	return differing, nil
}

// readOrZero reads zeros past the end: a disk may have grown between two snapshots.
func readOrZero(f *os.File, into []byte, offset int64) error {
	n, err := f.ReadAt(into, offset)
	if err != nil && err != io.EOF {
		return err
	}
	for i := n; i < len(into); i++ {
		into[i] = 0
	}
	return nil
}

// unite merges two ascending lists.
func unite(a, b []area) []area {
	var all []area
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || (len(a) > 0 && a[0].start <= b[0].start) {
			all, a = addArea(all, a[0]), a[1:]
		} else {
			all, b = addArea(all, b[0]), b[1:]
		}
	}
	return all
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

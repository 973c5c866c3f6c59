package main

import "sort"

// stretches are the parts of a write that have come: apart from each other, ascending.
type stretches [][2]uint64

// add takes in [from, to), and tells whether none of it had come before.
func (s *stretches) add(from, to uint64) bool {
	list := *s
	// The first that ends behind where this begins.
	at := sort.Search(len(list), func(i int) bool { return list[i][1] > from })
	if at < len(list) && list[at][0] < to {
		return false
	}
	before, behind := at > 0 && list[at-1][1] == from, at < len(list) && list[at][0] == to
	switch {
	case before && behind:
		list[at-1][1] = list[at][1]
		list = append(list[:at], list[at+1:]...)
	case before:
		list[at-1][1] = to
	case behind:
		list[at][0] = from
	default:
		list = append(list, [2]uint64{})
		copy(list[at+1:], list[at:])
		list[at] = [2]uint64{from, to}
	}
	*s = list
	return true
}

func (s stretches) length() uint64 {
	sum := uint64(0)
	for _, one := range s {
		sum += one[1] - one[0]
	}
	return sum
}

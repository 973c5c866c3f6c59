package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// The attribute that prctl sets belongs to a thread, so the main goroutine keeps the main thread.
func init() { runtime.LockOSThread() }

// dieWithParent sends a stop when the parent process ends. The kernel also signals when only the parent's
// thread that started us ends, which is told apart by the parent's id.
func dieWithParent(stop chan<- os.Signal) error {
	parent := os.Getppid()
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGUSR2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGUSR2), 0); errno != 0 {
		return errno
	}
	go func() {
		for range deaths {
			if os.Getppid() != parent {
				stop <- syscall.SIGTERM
			}
		}
	}()
	if os.Getppid() != parent {
		stop <- syscall.SIGTERM
	}
	return nil
}

// Tasks that wait, and that can or cannot be cancelled while they do.
package simulator

import (
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// pause waits within a task, and tells whether it went to its end.
func (l *labState) pause(task *Task, seconds float64) bool {
	if seconds <= 0 {
		return true
	}
	l.mu.Lock()
	cancelled := l.cancels[task.Self.Value] // nil, which blocks, for a task that cannot be cancelled
	l.mu.Unlock()
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return true
	case <-cancelled:
		return false
	}
}

// CancelTask ends a snapshot that is being made. The removal of one cannot be cancelled.
func (t *Task) CancelTask(ctx *Context, req *types.CancelTask) soap.HasFault {
	if t.Info.State != types.TaskInfoStateRunning && t.Info.State != types.TaskInfoStateQueued {
		return &methods.CancelTaskBody{Fault_: Fault("", &types.InvalidState{})}
	}
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	cancelled, ok := Lab.cancels[t.Self.Value]
	if !ok {
		return &methods.CancelTaskBody{Fault_: Fault("", &types.NotSupported{})}
	}
	if !t.Info.Cancelled {
		t.Info.Cancelled = true
		close(cancelled)
	}
	return &methods.CancelTaskBody{Res: &types.CancelTaskResponse{}}
}

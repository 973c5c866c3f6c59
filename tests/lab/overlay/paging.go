// Paging of the property collector, and its refusal without a session.
package simulator

import (
	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// resultPage is what a token stands for: objects not answered yet.
type resultPage struct {
	session string
	rest    []types.ObjectContent
	most    int
}

// RetrievePropertiesEx honours options.maxObjects.
func (pc *PropertyCollector) RetrievePropertiesEx(ctx *Context, req *types.RetrievePropertiesEx) soap.HasFault {
	if ctx.Session == nil && !isPublic(req.SpecSet) {
		return &methods.RetrievePropertiesExBody{Fault_: notAuthenticated(req.This)}
	}
	res := pc.retrieveEverything(ctx, req)
	body, ok := res.(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil || req.Options.MaxObjects <= 0 {
		return res
	}
	body.Res.Returnval = Lab.firstPage(sessionKey(ctx), body.Res.Returnval.Objects, int(req.Options.MaxObjects))
	return body
}

// ContinueRetrievePropertiesEx answers the page of a token, which is good for one use.
func (pc *PropertyCollector) ContinueRetrievePropertiesEx(ctx *Context, req *types.ContinueRetrievePropertiesEx) soap.HasFault {
	page := Lab.takePage(sessionKey(ctx), req.Token)
	if page == nil {
		return &methods.ContinueRetrievePropertiesExBody{Fault_: Fault("", &types.InvalidArgument{InvalidProperty: "token"})}
	}
	return &methods.ContinueRetrievePropertiesExBody{Res: &types.ContinueRetrievePropertiesExResponse{
		Returnval: *Lab.firstPage(page.session, page.rest, page.most),
	}}
}

// CancelRetrievePropertiesEx forgets a token.
func (pc *PropertyCollector) CancelRetrievePropertiesEx(ctx *Context, req *types.CancelRetrievePropertiesEx) soap.HasFault {
	if Lab.takePage(sessionKey(ctx), req.Token) == nil {
		return &methods.CancelRetrievePropertiesExBody{Fault_: Fault("", &types.InvalidArgument{InvalidProperty: "token"})}
	}
	return &methods.CancelRetrievePropertiesExBody{Res: &types.CancelRetrievePropertiesExResponse{}}
}

func (l *labState) firstPage(session string, objects []types.ObjectContent, most int) *types.RetrieveResult {
	if len(objects) <= most {
		return &types.RetrieveResult{Objects: objects}
	}
	token := uuid.New().String()
	l.mu.Lock()
	l.pages[token] = &resultPage{session: session, rest: objects[most:], most: most}
	l.mu.Unlock()
	return &types.RetrieveResult{Token: token, Objects: objects[:most]}
}

func (l *labState) takePage(session, token string) *resultPage {
	l.mu.Lock()
	defer l.mu.Unlock()
	page, ok := l.pages[token]
	if !ok || page.session != session {
		return nil
	}
	delete(l.pages, token)
	return page
}

func sessionKey(ctx *Context) string {
	if ctx.Session == nil {
		return ""
	}
	return ctx.Session.Key
}

// isPublic tells whether anyone may ask: clients read these two before they log in.
func isPublic(specs []types.PropertyFilterSpec) bool {
	for _, spec := range specs {
		for _, o := range spec.ObjectSet {
			if o.Obj.Type != "ServiceInstance" && o.Obj.Type != "SessionManager" {
				return false
			}
		}
	}
	return true
}

func notAuthenticated(object types.ManagedObjectReference) *soap.Fault {
	return Fault("The session is not authenticated.", &types.NotAuthenticated{
		NoPermission: types.NoPermission{Object: object, PrivilegeId: "System.View"},
	})
}

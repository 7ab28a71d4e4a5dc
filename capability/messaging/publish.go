package messaging

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// reserved reports whether a topic is of NATS or of this package.
func reserved(topic string) bool {
	return strings.HasPrefix(topic, "$") || strings.HasPrefix(topic, "_INBOX")
}

func checkTopic(topic string, wildcards bool) error {
	if err := wasmatrix.ValidateTopic(topic, wildcards); err != nil {
		return err
	}
	if reserved(topic) {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "topic %q is reserved", topic).With(wasmatrix.DetailField, "topic")
	}
	return nil
}

// Publish implements [capability.Messaging]. It waits at most two seconds for a
// connection. When the message may have been published in spite of the error, the
// error's outcome is unknown.
func (c *Client) Publish(ctx context.Context, scope *capability.Scope, topic string, data []byte) error {
	if err := checkTopic(topic, false); err != nil {
		return err
	}
	if int64(len(data)) > c.cfg.Config.MaxMessage {
		return tooLarge(len(data), c.cfg.Config.MaxMessage)
	}
	for {
		s, err := c.connectedSoon(ctx)
		if err != nil {
			return err
		}
		// The guard asks again when it is written.
		if scope.Alive != nil && !scope.Alive() {
			return notAlive(wasmatrix.OutcomeNone)
		}
		r, err := s.publish(scope.Alive, topic, data)
		switch {
		case errors.Is(err, nats.ErrMaxPayload):
			return tooLarge(len(data), s.pub.MaxPayload())
		case errors.Is(err, nats.ErrConnectionClosed):
			<-s.done // it has nothing of the message: the next may
			continue
		case err != nil:
			return c.broken(scope, err)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			// It is with the server, or its connection given up, within seconds. A revocation
			// relies on it that nothing of a call that has ended comes after (I7).
			<-r.done
			return interrupted(ctx, wasmatrix.OutcomeUnknown)
		}
		if r.err != nil {
			return c.broken(scope, r.err)
		}
		return forbidden(s.refusal(s.pub), "Publish to", topic)
	}
}

// Subscribe implements [capability.Messaging]. It waits at most two seconds for a
// connection.
func (c *Client) Subscribe(ctx context.Context, scope *capability.Scope, topic, group string) (capability.Subscription, error) {
	if err := checkTopic(topic, true); err != nil {
		return nil, err
	}
	if group != "" {
		if err := wasmatrix.ValidateTopic(group, false); err != nil {
			return nil, wasmatrix.AsError(err).With(wasmatrix.DetailField, "group")
		}
	}
	if scope.Alive != nil && !scope.Alive() {
		return nil, notAlive(wasmatrix.OutcomeNone)
	}
	sub := c.newSubscription(topic, group)
	if err := c.subscribe(ctx, sub); err != nil {
		_ = sub.Close()
		return nil, err
	}
	return sub, nil
}

// subscribe has messages come to sub, and returns when the servers know.
func (c *Client) subscribe(ctx context.Context, sub *subscription) error {
	limit := time.NewTimer(connectWait)
	defer limit.Stop()
	for {
		s, err := c.connected(ctx, limit.C)
		if err != nil {
			return err
		}
		if err := c.enlist(s, sub); err != nil {
			if wasmatrix.CodeOf(err) == wasmatrix.CodeResourceExhausted {
				return err
			}
			// The session has ended.
		} else {
			r := s.syncs.join(nil)
			select {
			case <-r.done:
			case <-ctx.Done():
				return interrupted(ctx, wasmatrix.OutcomeNone)
			}
			if r.err == nil {
				return forbidden(s.refusal(s.sub), "Subscription to", sub.topic)
			}
		}
		// It is of the next session as well.
		select {
		case <-s.done:
		case <-ctx.Done():
			return interrupted(ctx, wasmatrix.OutcomeNone)
		}
	}
}

// enlist makes sub one of the client's, and of s if that is the session in use.
func (c *Client) enlist(s *session, sub *subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.subs[sub]; ok {
		return nil // and of every session since
	}
	switch {
	case c.subs == nil:
		return errClosed
	case len(c.subs) >= maxSubscriptions:
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "%d subscriptions, no more are allowed", len(c.subs))
	case c.session.Load() != s:
		return nats.ErrConnectionClosed
	}
	if err := s.attach(sub); err != nil {
		return err
	}
	c.subs[sub] = struct{}{}
	return nil
}

// forget is the end of sub.
func (c *Client) forget(sub *subscription) {
	c.mu.Lock()
	_, ok := c.subs[sub]
	delete(c.subs, sub)
	s, ns := sub.session, sub.nats
	c.mu.Unlock()
	if ok {
		s.detach(ns)
	}
}

// connectedSoon is connected, without a timer where there is a session.
func (c *Client) connectedSoon(ctx context.Context) (*session, error) {
	if s := c.session.Load(); s != nil && !s.ended() {
		return s, nil
	}
	limit := time.NewTimer(connectWait)
	defer limit.Stop()
	return c.connected(ctx, limit.C)
}

// broken is the error of a message that a session took with it to its end.
func (c *Client) broken(scope *capability.Scope, err error) error {
	switch {
	case c.ctx.Err() != nil:
		return errClosed.With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	case scope.Alive != nil && !scope.Alive():
		return notAlive(wasmatrix.OutcomeUnknown)
	}
	return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the connection with messaging broke: %w", err).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

func tooLarge(n int, limit int64) error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "a message of %d bytes is larger than the limit of %d", n, limit)
}

func notAlive(outcome string) error {
	return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the lease of the publisher has run out").With(wasmatrix.DetailOutcome, outcome)
}

func interrupted(ctx context.Context, outcome string) error {
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "messaging: %w", ctx.Err()).With(wasmatrix.DetailOutcome, outcome)
}

// forbidden is the last refusal of a server of one's own, if it is of this topic. Of
// several at a time only one is seen.
func forbidden(refusal error, what, topic string) error {
	if refusal != nil && strings.Contains(refusal.Error(), what+` "`+topic+`"`) {
		return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "the messaging server refuses: %w", refusal)
	}
	return nil
}

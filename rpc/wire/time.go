package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wasmatrix/wasmatrix"
)

// timeTo leaves a zero time absent.
func timeTo(t wasmatrix.Time) *timestamppb.Timestamp {
	if t == 0 {
		return nil
	}
	return timestamppb.New(t.Std())
}

// timeFrom reads an absent time, and one beyond what nanoseconds since 1970 can
// say, as zero.
func timeFrom(t *timestamppb.Timestamp) wasmatrix.Time {
	if t == nil || !t.IsValid() {
		return 0
	}
	out := wasmatrix.TimeOf(t.AsTime())
	if !out.Std().Equal(t.AsTime()) {
		return 0
	}
	return out
}

// DurationTo leaves a zero duration absent.
func DurationTo(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// DurationFrom reads an absent duration as zero. Field names it in the error,
// which is E1.
func DurationFrom(d *durationpb.Duration, field string) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%s is not a duration", field).With(wasmatrix.DetailField, field)
	}
	// AsDuration saturates where nanoseconds do not reach; the validators'
	// bounds are far below.
	return d.AsDuration(), nil
}

// StdTime converts a time, leaving a zero one absent.
func StdTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

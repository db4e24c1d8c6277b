// Calls an external scaler with the client that KEDA itself uses, and prints one line of JSON for each reply.
//
//	keda-client ADDRESS METADATA   METADATA: the trigger's metadata as JSON
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	scaler "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, metadata string) error {
	reference := &scaler.ScaledObjectRef{Name: "shop", Namespace: "team"}
	if err := json.Unmarshal([]byte(metadata), &reference.ScalerMetadata); err != nil {
		return err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	client := scaler.NewExternalScalerClient(connection)
	within, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	patiently := grpc.WaitForReady(true)

	specs, err := client.GetMetricSpec(within, reference, patiently)
	if err != nil {
		return err
	}
	spec := specs.MetricSpecs[0]
	tell("spec", map[string]any{"name": spec.MetricName, "target": spec.TargetSizeFloat})

	values, err := client.GetMetrics(within, &scaler.GetMetricsRequest{ScaledObjectRef: reference, MetricName: spec.MetricName})
	if err != nil {
		return err
	}
	tell("value", map[string]any{"name": values.MetricValues[0].MetricName, "value": values.MetricValues[0].MetricValueFloat})

	active, err := client.IsActive(within, reference)
	if err != nil {
		return err
	}
	tell("active", active.Result)

	stream, err := client.StreamIsActive(within, reference)
	if err != nil {
		return err
	}
	for {
		pushed, err := stream.Recv()
		if err != nil {
			return err
		}
		tell("pushed", pushed.Result)
		if pushed.Result {
			return nil
		}
	}
}

func tell(what string, value any) {
	line, _ := json.Marshal(map[string]any{what: value})
	fmt.Println(string(line))
}

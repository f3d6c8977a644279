package deploy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// render renders a kustomization of deploy/kubernetes.
func render(t *testing.T, name string) (deployments map[string]appsv1.Deployment, secrets map[string]corev1.Secret) {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), repository+"/deploy/kubernetes/"+name)
	require.NoError(t, err)
	deployments, secrets = map[string]appsv1.Deployment{}, map[string]corev1.Secret{}
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		switch resource.GetKind() {
		case "Deployment":
			var d appsv1.Deployment
			require.NoError(t, yaml.UnmarshalStrict(text, &d), "fields that Kubernetes knows")
			deployments[d.Name] = d
		case "Secret":
			var s corev1.Secret
			require.NoError(t, yaml.UnmarshalStrict(text, &s))
			secrets[s.Name] = s
		default:
			t.Fatalf("a %s that nothing checks", resource.GetKind())
		}
	}
	return deployments, secrets
}

func TestTheKubernetesExampleRunsTheWorkerAsASidecarOfTheGateway(t *testing.T) {
	deployments, secrets := render(t, "example")
	pod := deployments["gateway"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	require.Len(t, pod.InitContainers, 1)
	sidecar := pod.InitContainers[0]
	require.Equal(t, corev1.ContainerRestartPolicyAlways, *sidecar.RestartPolicy, "a sidecar, and not a step before the gateway's start")
	require.Equal(t, "registry.example/provwatch:v1.0.0", sidecar.Image)

	// What it refers to exists, and the worker takes it.
	var environment []string
	for _, from := range sidecar.EnvFrom {
		secret, exists := secrets[from.SecretRef.Name]
		require.True(t, exists, from.SecretRef.Name)
		for name, value := range secret.Data {
			environment = append(environment, name+"="+string(value))
		}
	}
	require.Equal(t, pod.Containers[0].EnvFrom, sidecar.EnvFrom, "the provider variables are the gateway's own")
	port := ""
	for _, variable := range sidecar.Env {
		if variable.ValueFrom != nil {
			key := variable.ValueFrom.SecretKeyRef
			require.Contains(t, secrets[key.Name].Data, key.Key)
			require.Equal(t, "DATABASE_URL", variable.Name)
			continue
		}
		if variable.Name == "PROVWATCH_HTTP_ADDR" {
			_, port, _ = strings.Cut(variable.Value, ":")
		}
		environment = append(environment, variable.Name+"="+variable.Value)
	}
	require.NotEmpty(t, environment)
	requireUsable(t, environment, sidecar.Args...)

	// The probes ask for pages that there are, on the port that is served.
	require.Len(t, sidecar.Ports, 1)
	require.Equal(t, port, "9464")
	require.EqualValues(t, 9464, sidecar.Ports[0].ContainerPort)
	for path, probe := range map[string]*corev1.Probe{"/readyz": sidecar.StartupProbe, "/healthz": sidecar.LivenessProbe} {
		require.NotNil(t, probe)
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, sidecar.Ports[0].Name, probe.HTTPGet.Port.StrVal)
	}
	require.Nil(t, sidecar.ReadinessProbe, "a worker that cannot look does not take the gateway out of service")

	security := sidecar.SecurityContext
	require.True(t, *security.RunAsNonRoot)
	require.True(t, *security.ReadOnlyRootFilesystem)
	require.False(t, *security.AllowPrivilegeEscalation)
	require.EqualValues(t, 65532, *security.RunAsUser, "the image's user")
	require.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop)
}

// TestTheSidecarMeetsTheRestrictedPodSecurityStandard asks what the API server asks
// in a namespace that enforces it. The gateway's own containers are not ours.
func TestTheSidecarMeetsTheRestrictedPodSecurityStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	refused := func(pod *corev1.PodSpec) string {
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &metav1.ObjectMeta{}, pod))
		require.Equal(t, result.Allowed, len(result.ForbiddenReasons) == 0)
		return result.ForbiddenDetail()
	}
	deployments, _ := render(t, "example")
	pod := deployments["gateway"].Spec.Template.Spec
	pod.Containers = nil
	require.Empty(t, refused(&pod))
	pod.InitContainers[0].SecurityContext.SeccompProfile = nil
	require.Contains(t, refused(&pod), "seccompProfile")
}

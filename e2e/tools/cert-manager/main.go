// Cert-manager's controllers and its CA injector in one process, for a control plane that has no nodes to run them on.
//
// Upstream's own commands are modules that the module proxy does not serve. What they would start is taken from the
// main module unchanged: all that is needed for self-signed and CA issuers. ACME, Vault, Venafi, the Ingress and
// Gateway shims, the metrics and cert-manager's own webhook are left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	crca "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	crselfsigned "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	"github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	"github.com/cert-manager/cert-manager/pkg/controller/issuers"
	// These register themselves with the issuer controllers.
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/util"
)

// Importing their packages has registered them under these names.
var controllers = []string{
	approver.ControllerName,
	clusterissuers.ControllerName,
	crca.CRControllerName,
	crselfsigned.CRControllerName,
	issuers.ControllerName,
	issuing.ControllerName,
	keymanager.ControllerName,
	readiness.ControllerName,
	requestmanager.ControllerName,
	revisionmanager.ControllerName,
	trigger.ControllerName,
}

func main() {
	// A set of its own: controller-runtime has put a --kubeconfig into the global one.
	flags := flag.NewFlagSet("cert-manager", flag.ExitOnError)
	klog.InitFlags(flags)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the cluster")
	namespace := flags.String("cluster-resource-namespace", "cert-manager", "where ClusterIssuers find their Secrets")
	version := flags.Bool("version", false, "print the version")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "Usage:\n  cert-manager --kubeconfig=FILE   run until SIGTERM\n  cert-manager crds                print the CRDs\n\nFlags:\n")
		flags.PrintDefaults()
	}
	_ = flags.Parse(os.Args[1:])

	var err error
	switch {
	case *version:
		_, err = fmt.Println(util.VersionInfo().GitVersion)
	case flags.NArg() == 1 && flags.Arg(0) == "crds":
		err = printCRDs()
	case flags.NArg() > 0:
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	case *kubeconfig == "":
		err = errors.New("--kubeconfig is missing")
	default:
		err = runUntilSignal(*kubeconfig, *namespace)
	}
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// printCRDs prints the file that the build has put beside the executable: no package of cert-manager embeds it.
func printCRDs() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	// A link to the executable has no such neighbour.
	if executable, err = filepath.EvalSymlinks(executable); err != nil {
		return err
	}
	crds, err := os.ReadFile(filepath.Join(filepath.Dir(executable), "crds.yaml"))
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(crds)
	return err
}

func runUntilSignal(kubeconfig, namespace string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctrl.SetLogger(klog.Background())
	err := run(klog.NewContext(ctx, klog.Background()), kubeconfig, namespace)
	// Told to stop, some controllers complain that their caches did not fill.
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("a controller ended by itself")
	}
	return err
}

func run(ctx context.Context, kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	if err := awaitCRDs(ctx, config); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := startControllers(ctx, group, kubeconfig, namespace); err != nil {
		return err
	}
	injector, err := newInjector(ctx, config)
	if err != nil {
		return err
	}
	group.Go(func() error { return injector.Start(ctx) })
	return group.Wait()
}

// awaitCRDs lets this program be started before the CRDs are there: the injector does not bear that.
func awaitCRDs(ctx context.Context, config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	served := func() bool {
		list, err := client.ServerResourcesForGroupVersion(cmapi.SchemeGroupVersion.String())
		if err != nil {
			return false
		}
		missing := map[string]bool{"certificates": true, "certificaterequests": true, "issuers": true, "clusterissuers": true}
		for _, resource := range list.APIResources {
			delete(missing, resource.Name)
		}
		return len(missing) == 0
	}
	if !served() {
		klog.FromContext(ctx).Info("waiting for the CRDs")
	}
	return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(context.Context) (bool, error) {
		return served(), nil
	})
}

func startControllers(ctx context.Context, group *errgroup.Group, kubeconfig, namespace string) error {
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig: kubeconfig,
		// For servers without priority and fairness; elsewhere the server limits.
		KubernetesAPIQPS:   100,
		KubernetesAPIBurst: 200,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: namespace},
		// As upstream by default.
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes: []string{
				"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/",
			},
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	})
	if err != nil {
		return err
	}
	known := controller.Known()
	for _, name := range controllers {
		construct, found := known[name]
		if !found {
			return fmt.Errorf("there is no controller %s", name)
		}
		instance, err := construct(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		const workers = 5 // as upstream by default
		group.Go(func() error { return instance.Run(workers, ctx) })
	}
	// The controllers have named the informers they need; all contexts share these.
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	return nil
}

func newInjector(ctx context.Context, config *rest.Config) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme, cmapi.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	manager, err := ctrl.NewManager(util.RestConfigWithUserAgent(config, "cainjector"), ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		// It watches no more than the metadata of Secrets, so their content has to be asked for.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, err
	}
	return manager, cainjector.RegisterAllInjectors(ctx, manager, cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
			cainjector.APIServiceName:                     true,
			cainjector.CustomResourceDefinitionName:       true,
		},
	})
}

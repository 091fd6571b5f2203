import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.curator.x.discovery.details.JsonInstanceSerializer;
import org.apache.curator.x.discovery.details.ServiceCacheListener;

/** Curator's discovery, asked in JSON lines by tests/servers/program.py; ends with its input. */
@SuppressWarnings("rawtypes")
class Discovery {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;

    private final Map<String, ServiceInstance<Map>> registered = new HashMap<>();
    private CuratorFramework client;
    private ServiceDiscovery<Map> discovery;

    public static void main(String[] arguments) throws Exception {
        Discovery program = new Discovery();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode question = JSON.readTree(line);
            Map<String, Object> said = new HashMap<>();
            said.put("id", question.get("id").intValue());
            try {
                said.put("answer", program.answer(question));
            } catch (Exception error) {
                said.put("error", error.toString());
            }
            say(said);
        }
        System.exit(0); // the nodes of the session vanish when it has expired, as after a crash
    }

    private static synchronized void say(Map<String, Object> line) throws Exception {
        OUT.println(JSON.writeValueAsString(line));
        OUT.flush();
    }

    private Object answer(JsonNode question) throws Exception {
        switch (question.get("ask").textValue()) {
            case "start":
                start(question.get("hosts").textValue(), question.get("base").textValue());
                return null;
            case "register":
                register(question);
                return null;
            case "update":
                update(question);
                return null;
            case "unregister":
                discovery.unregisterService(registered.remove(question.get("instance").textValue()));
                return null;
            case "names":
                return discovery.queryForNames();
            case "list":
                return shown(discovery.queryForInstances(question.get("service").textValue()));
            case "watch":
                return watch(question.get("service").textValue());
            default:
                throw new IllegalArgumentException("unknown question");
        }
    }

    private void start(String hosts, String base) throws Exception {
        client = CuratorFrameworkFactory.newClient(hosts, 4000, 4000, new RetryOneTime(100));
        client.start();
        client.blockUntilConnected();
        discovery = ServiceDiscoveryBuilder.builder(Map.class)
                .client(client)
                .basePath(base)
                .serializer(new JsonInstanceSerializer<>(Map.class))
                .build();
        discovery.start();
    }

    private void register(JsonNode question) throws Exception {
        ServiceInstance<Map> instance = described(question);
        discovery.registerService(instance);
        registered.put(instance.getId(), instance);
    }

    /** Change the data of its node in place. */
    private void update(JsonNode question) throws Exception {
        ServiceInstance<Map> instance = described(question);
        discovery.updateService(instance);
        registered.put(instance.getId(), instance);
    }

    private static ServiceInstance<Map> described(JsonNode question) throws Exception {
        return ServiceInstance.<Map>builder()
                .name(question.get("service").textValue())
                .id(question.get("instance").textValue())
                .address(question.get("address").textValue())
                .port(question.get("port").intValue())
                .payload(JSON.convertValue(question.get("payload"), Map.class))
                .uriSpec(new UriSpec("{scheme}://{address}:{port}"))
                .build();
    }

    /** Tell the list of now, and each later one as an event. */
    private Object watch(String service) throws Exception {
        ServiceCache<Map> cache = discovery.serviceCacheBuilder().name(service).build();
        cache.addListener(new ServiceCacheListener() {
            @Override
            public void cacheChanged() {
                try {
                    say(Map.of("event", "changed", "instances", shown(cache.getInstances())));
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        });
        cache.start();
        return shown(cache.getInstances());
    }

    private static List<Map<String, Object>> shown(Collection<ServiceInstance<Map>> instances) {
        List<Map<String, Object>> list = new ArrayList<>();
        for (ServiceInstance<Map> instance : instances) {
            Map<String, Object> facts = new HashMap<>();
            facts.put("id", instance.getId());
            facts.put("address", instance.getAddress());
            facts.put("port", instance.getPort());
            facts.put("sslPort", instance.getSslPort());
            facts.put("url", instance.buildUriSpec());
            facts.put("type", instance.getServiceType().name());
            facts.put("registered", instance.getRegistrationTimeUTC());
            list.add(facts);
        }
        return list;
    }
}
